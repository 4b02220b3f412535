package socket

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/linux"
)

// MemInfo reads one of the counters SK_MEMINFO_* of a socket, in bytes. See
// SO_MEMINFO (Linux 4.12, include/uapi/linux/sock_diag.h).
func MemInfo(fd, counter int) (uint32, error) {
	var buf [4 * unix.SK_MEMINFO_VARS]byte
	n, err := linux.Getsockopt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, buf[:])
	if err != nil {
		return 0, fmt.Errorf("read SO_MEMINFO: %w", err)
	}
	if n < 4*counter+4 {
		return 0, fmt.Errorf("read SO_MEMINFO: the kernel tells %d bytes only", n)
	}
	return binary.NativeEndian.Uint32(buf[4*counter:]), nil
}

// Hidden tells, by how much memory the kernel keeps for a socket
// (SK_MEMINFO_OPTMEM), whether something is attached to a socket that no option shows:
// keys (TCP_MD5SIG, TCP_AO), memberships of groups. The kernel accounts for all
// of them, and for the filter and options of no certain size, which are known.
// like makes a new socket.
func (s *Saved) Hidden(has uint32, more *extra.SocketEntry, like func() (int, error)) (bool, error) {
	if has == 0 {
		return false, nil
	}
	filter, long := s.Entry.GetSoFilter(), more.GetLong()
	if len(filter) == 0 && len(long) == 0 && more.GetFilter() == nil {
		return true, nil
	}
	n, err := like()
	if err != nil {
		return false, fmt.Errorf("make a socket to compare with: %w", err)
	}
	defer unix.Close(n)
	if err := errors.Join(attachFilter(n, filter), AttachEBPF(n, more.GetFilter()), SetLong(n, long)); err != nil {
		return false, err
	}
	want, err := MemInfo(n, unix.SK_MEMINFO_OPTMEM)
	return has != want, err
}

// siocgskns is SIOCGSKNS of include/uapi/linux/sockios.h (Linux 4.9).
const siocgskns = 0x894c

// OtherNet tells whether a socket is of another network namespace than the
// engine's. See ioctl SIOCGSKNS in network_namespaces(7).
func OtherNet(fd int) (bool, error) { return OtherNetBy(fd, siocgskns, "SIOCGSKNS") }

// OtherNetBy is OtherNet by any request of ioctl(2) that returns a namespace.
func OtherNetBy(fd int, request uint, name string) (bool, error) {
	n, err := unix.IoctlRetInt(fd, request)
	if err != nil {
		return false, fmt.Errorf("ask for its network namespace (%s, which needs CAP_NET_ADMIN): %w", name, err)
	}
	defer unix.Close(n)
	var its, ours unix.Stat_t
	if err := unix.Fstat(n, &its); err != nil {
		return false, fmt.Errorf("look at its network namespace: %w", err)
	}
	if err := unix.Stat("/proc/thread-self/ns/net", &ours); err != nil {
		return false, fmt.Errorf("look at Glis's network namespace: %w", err)
	}
	return its.Dev != ours.Dev || its.Ino != ours.Ino, nil
}
