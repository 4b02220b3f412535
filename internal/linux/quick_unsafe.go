package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls that Go's scheduler is not told of, which takes half a microsecond each:
// for thousands of files of a local file system, or of sockets, where none takes long. A thread that
// waits in one keeps its CPU from all other goroutines.

// quickPath is the room for a path that is not put on the heap, in bytes.
const quickPath = 128

// pathBytes returns a path as the kernel wants it, in room if it fits.
func pathBytes(room *[quickPath]byte, path string) (*byte, error) {
	if len(path) >= quickPath {
		return unix.BytePtrFromString(path)
	}
	for i := range len(path) {
		if path[i] == 0 {
			return nil, unix.EINVAL
		}
	}
	room[copy(room[:], path)] = 0
	return &room[0], nil
}

// QuickFstatat is unix.Fstatat.
func QuickFstatat(dir int, path string, st *unix.Stat_t, flags int) error {
	var room [quickPath]byte
	p, err := pathBytes(&room, path)
	if err != nil {
		return err
	}
	return quick(unix.RawSyscall6(sysFstatat, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(st)), uintptr(flags), 0, 0))
}

// QuickFstat is unix.Fstat.
func QuickFstat(fd int, st *unix.Stat_t) error {
	return quick(unix.RawSyscall(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(st)), 0))
}

// QuickOpenat is unix.Openat of a file that exists.
func QuickOpenat(dir int, path string, flags int) (int, error) {
	var room [quickPath]byte
	p, err := pathBytes(&room, path)
	if err != nil {
		return -1, err
	}
	n, _, e := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(flags), 0, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// QuickSeek is unix.Seek from the beginning of a file.
func QuickSeek(fd int, pos int64) error {
	return quick(unix.RawSyscall(unix.SYS_LSEEK, uintptr(fd), uintptr(pos), unix.SEEK_SET))
}

// QuickBind is Bind of an internet socket.
func QuickBind(fd int, address []byte) error {
	return quick(unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(address))), uintptr(len(address))))
}

// QuickConnect is Connect of one that does not wait for its peer.
func QuickConnect(fd int, address []byte) error {
	return quick(unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(address))), uintptr(len(address))))
}

func quick(_, _ uintptr, e unix.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}
