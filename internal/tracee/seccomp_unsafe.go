package tracee

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// Filter is one seccomp filter of a thread: instructions of struct sock_filter
// and what it was installed with, as far as the kernel tells.
type Filter struct {
	Code []byte
	Log  bool // SECCOMP_FILTER_FLAG_LOG
}

// Filters returns the filters of a stopped thread, the oldest first. The caller
// needs CAP_SYS_ADMIN and must not be under seccomp itself. Linux 4.16.
func Filters(tid proc.TID) (out []Filter, err error) {
	buf := make([]byte, linux.BPF_MAXINSNS*linux.SizeofSockFilter)
	for at := uintptr(0); ; at++ {
		n, _, e := unix.RawSyscall6(unix.SYS_PTRACE, linux.PTRACE_SECCOMP_GET_FILTER, uintptr(tid), at, uintptr(unsafe.Pointer(&buf[0])), 0, 0)
		if errors.Is(e, unix.ENOENT) {
			return out, nil
		}
		if e != 0 {
			return nil, wrap("read a seccomp filter of", tid, e)
		}
		meta := struct{ off, flags uint64 }{off: uint64(at)}
		_, _, e = unix.RawSyscall6(unix.SYS_PTRACE, linux.PTRACE_SECCOMP_GET_METADATA, uintptr(tid), unsafe.Sizeof(meta), uintptr(unsafe.Pointer(&meta)), 0, 0)
		if e != 0 {
			return nil, wrap("read the flags of a seccomp filter of", tid, e)
		}
		out = append(out, Filter{Code: append([]byte(nil), buf[:n*linux.SizeofSockFilter]...), Log: meta.flags&linux.SECCOMP_FILTER_FLAG_LOG != 0})
	}
}
