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

// Received is what Recvmsg has read.
type Received struct {
	N       int // bytes; more than there was room for with MSG_TRUNC
	Control int // bytes of control messages
	Flags   int // MSG_*
	Name    int // bytes of the sender's address, family first
}

// Recvmsg reads a message, see recvmsg(2). Unlike a decoded address the
// sender's, in name, keeps every byte of a unix socket's.
func Recvmsg(fd int, data, control, name []byte, flags int) (Received, error) {
	iov := unix.Iovec{Base: unsafe.SliceData(data)}
	iov.SetLen(len(data))
	m := unix.Msghdr{Iov: &iov, Name: unsafe.SliceData(name), Namelen: uint32(len(name)), Control: unsafe.SliceData(control)}
	m.SetIovlen(1)
	m.SetControllen(len(control))
	n, _, e := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags))
	if e != 0 {
		return Received{}, e
	}
	return Received{N: int(n), Control: int(m.Controllen), Flags: int(m.Flags), Name: int(m.Namelen)}, nil
}

// PeekInto peeks into two places, the second of which may be memory that can't
// be written, and has no room for what comes along; see recvmsg(2).
func PeekInto(fd int, data, wall []byte, flags int) (int, error) {
	iov := [2]unix.Iovec{{Base: unsafe.SliceData(data)}, {Base: unsafe.SliceData(wall)}}
	iov[0].SetLen(len(data))
	iov[1].SetLen(len(wall))
	m := unix.Msghdr{Iov: &iov[0]}
	m.SetIovlen(len(iov))
	n, _, e := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Sendmsg sends a message to an address, family first, or to the peer if name
// is empty, and returns how many bytes were sent, see sendmsg(2).
func Sendmsg(fd int, data, control, name []byte, flags int) (int, error) {
	iov := unix.Iovec{Base: unsafe.SliceData(data)}
	iov.SetLen(len(data))
	m := unix.Msghdr{Iov: &iov}
	m.SetIovlen(1)
	if len(name) > 0 {
		m.Name, m.Namelen = unsafe.SliceData(name), uint32(len(name))
	}
	if len(control) > 0 {
		m.Control = unsafe.SliceData(control)
		m.SetControllen(len(control))
	}
	n, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Getsockname writes a socket's own address into buf, family first, and
// returns its length, see getsockname(2).
func Getsockname(fd int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
