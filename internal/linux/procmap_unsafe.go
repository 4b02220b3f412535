package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/fs.h, Linux 6.11.
const (
	PROCMAP_QUERY = 0xC0686611
	maxBuildID    = 64 // bytes; the kernel hands out at most 20
)

// procmapQuery is struct procmap_query.
type procmapQuery struct {
	Size, QueryFlags, QueryAddr   uint64
	VMAStart, VMAEnd, VMAFlags    uint64
	VMAPageSize, VMAOffset, Inode uint64
	DevMajor, DevMinor            uint32
	VMANameSize, BuildIDSize      uint32
	VMANameAddr                   uint64
	// A typed pointer, so that it follows its target if the stack moves.
	BuildIDAddr *[maxBuildID]byte
}

// ProcmapBuildID returns the GNU build-id of the ELF file that is mapped at
// addr in the process whose /proc/PID/maps is open as fd; nil if it has none.
// See PROCMAP_QUERY in ioctl_procmap(2); ENOTTY before Linux 6.11, ENOENT if
// nothing is mapped there.
func ProcmapBuildID(fd int, addr uint64) ([]byte, error) {
	var id [maxBuildID]byte
	q := procmapQuery{QueryAddr: addr, BuildIDSize: maxBuildID, BuildIDAddr: &id}
	q.Size = uint64(unsafe.Sizeof(q))
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), PROCMAP_QUERY, uintptr(unsafe.Pointer(&q))); e != 0 {
		return nil, e
	}
	if q.BuildIDSize == 0 || q.BuildIDSize > maxBuildID {
		return nil, nil
	}
	return append([]byte(nil), id[:q.BuildIDSize]...), nil
}
