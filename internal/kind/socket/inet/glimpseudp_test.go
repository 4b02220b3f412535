package inet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/options"
)

// datagramSockets makes UDP sockets in many states, two of each, of which those that
// are idle, with nothing rare, are counted.
func datagramSockets(t *testing.T, family int) (fds []int, idle int) {
	t.Helper()
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if family == unix.AF_INET6 {
		ip = netip.IPv6Loopback()
	}
	other := manyUDP(t, family, 1)[0]
	peer, err := unix.Getsockname(other)
	must(t, err)
	unused := address{ip, 1}.sockaddr(family, 0)
	for _, way := range []struct {
		unbound, busy bool
		f             func(fd int) error
	}{
		{},
		{unbound: true},
		{f: func(fd int) error { return unix.Connect(fd, peer) }},
		{unbound: true, f: func(fd int) error { return unix.Connect(fd, peer) }},
		{unbound: true, f: func(fd int) error { return unix.Sendto(fd, []byte("x"), 0, peer) }},
		{busy: true, f: func(fd int) error {
			at, err := unix.Getsockname(fd)
			return errors.Join(err, unix.Sendto(other, []byte("waits"), 0, at))
		}},
		{busy: true, f: func(fd int) error {
			return errors.Join(unix.Connect(fd, unused), unix.Send(fd, []byte("refused"), 0))
		}},
		{busy: true, f: func(fd int) error { return errors.Join(unix.Connect(fd, peer), unix.Shutdown(fd, unix.SHUT_RD)) }},
		{busy: true, f: func(fd int) error { return errors.Join(unix.Connect(fd, peer), unix.Shutdown(fd, unix.SHUT_WR)) }},
		{busy: true, f: func(fd int) error { return unix.Sendto(fd, []byte("more"), unix.MSG_MORE, peer) }},
		{busy: true, f: func(fd int) error {
			return linux.FcntlSetOwnerEx(fd, linux.FOwnerEx{Type: linux.F_OWNER_PID, PID: int32(os.Getpid())})
		}},
		{f: func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 40000) }},
		{f: func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) }},
		{f: func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_CORK, 1) }},
		{f: func(fd int) error {
			return unix.SetsockoptInet4Addr(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, [4]byte{127, 0, 0, 1})
		}},
		{busy: true, f: func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }},
		{f: func(fd int) error {
			if family == unix.AF_INET {
				return nil
			}
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 7)
		}},
	} {
		for range 2 {
			fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			t.Cleanup(func() { must(t, unix.Close(fd)) })
			if !way.unbound {
				must(t, unix.Bind(fd, address{ip: ip}.sockaddr(family, 0)))
			}
			if way.f != nil {
				must(t, way.f(fd))
			}
			fds = append(fds, fd)
		}
		if !way.busy {
			idle++ // the other one was asked
		}
	}
	return fds, idle
}

// What memory tells of UDP sockets is what system calls do.
func TestGlimpseUDP(t *testing.T) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		t.Run(fmt.Sprint(family), func(t *testing.T) {
			manyUDP(t, family, severalDescriptors)
			fds, idle := datagramSockets(t, family)
			k := New()
			k.PrepareFor(severalDescriptors, memory(t))
			got, err := dumpedBy(t, k, &options.Dump{}, fds...)
			must(t, err)
			want, err := dumped(t, &options.Dump{}, fds...)
			must(t, err)
			compareImages(t, got, want)
			if k.alike.doubt || k.alike.idle < idle {
				t.Errorf("of %d UDP sockets %d were dumped by memory alone, want %d; doubt: %v", len(fds), k.alike.idle, idle, k.alike.doubt)
			}
		})
	}
}
