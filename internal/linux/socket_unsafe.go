package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Getsockopt reads an option of any size into buf and returns how many bytes
// it has, see getsockopt(2).
func Getsockopt(fd, level, name int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Setsockopt sets an option of any size, see setsockopt(2).
func Setsockopt(fd, level, name int, value []byte) error {
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(unsafe.SliceData(value))), uintptr(len(value)), 0)
	if e != 0 {
		return e
	}
	return nil
}

// SocketFilter reads the classic BPF program of a socket, none if there is
// none. A program attached as eBPF is EACCES. See SO_GET_FILTER in
// include/uapi/asm-generic/socket.h (Linux 3.8): its length counts
// instructions, not bytes.
func SocketFilter(fd int) ([]unix.SockFilter, error) {
	var n uint32
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER, 0, uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return nil, e
	}
	if n == 0 || n > unix.BPF_MAXINSNS {
		return nil, nil
	}
	prog := make([]unix.SockFilter, n)
	_, _, e = unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER, uintptr(unsafe.Pointer(&prog[0])), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return nil, e
	}
	return prog[:min(int(n), len(prog))], nil
}

// Getpeername writes the address of a socket's peer into buf, family first,
// and returns its length, see getpeername(2). Unlike a decoded address it keeps
// every byte of a unix socket's name.
func Getpeername(fd int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, e := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Bind gives a socket an address, family first, see bind(2). Unlike with an
// address that is encoded for us, every byte of a unix socket's name counts.
func Bind(fd int, address []byte) error {
	_, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(address))), uintptr(len(address)))
	if e != 0 {
		return e
	}
	return nil
}

// Connect connects a socket to an address, family first, see connect(2).
func Connect(fd int, address []byte) error {
	_, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(address))), uintptr(len(address)))
	if e != 0 {
		return e
	}
	return nil
}
