package inet

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// manyUDP makes bound UDP sockets of a family.
func manyUDP(t *testing.T, family, n int) (fds []int) {
	t.Helper()
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if family == unix.AF_INET6 {
		ip = netip.IPv6Loopback()
	}
	for range n {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { must(t, unix.Close(fd)) })
		must(t, unix.Bind(fd, address{ip: ip}.sockaddr(family, 0)))
		fds = append(fds, fd)
	}
	return fds
}

// udpGroups returns the groups of sockets of this process.
func (a *alikes) udpGroups(t *testing.T) map[int32]*socket.Group {
	t.Helper()
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	must(t, err)
	defer unix.Close(self) //nolint:errcheck // nothing is buffered
	task := &scan.Task{}
	must(t, a.memory.Each(self, func(m sockmem.Socket) error {
		a.surveyUDP(task, m)
		return nil
	}))
	out := map[int32]*socket.Group{}
	for _, g := range a.plain[task] {
		out[g.fd] = g.group
	}
	return out
}

// Whatever option is set, UDP sockets that are called alike have the same ones;
// and those of which nothing was set are alike.
func TestAlikeUDP(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fds := manyUDP(t, family, severalDescriptors)
		k, a := learnt(t)
		if a.memory.TCP.UDP == nil || a.udp[family] == nil {
			t.Fatalf("family %d: nothing was learnt of UDP", family)
		}
		same := map[*socket.Group]bool{}
		of := a.udpGroups(t)
		for _, fd := range fds {
			same[of[int32(fd)]] = true
		}
		if len(same) != 1 {
			t.Errorf("family %d: %d groups of sockets of which nothing was set", family, len(same))
		}
		s := sort{family: family, protocol: unix.IPPROTO_UDP}
		kernel, err := k.kernel(s)
		must(t, err)
		tried := 0
		for _, o := range kernel.Table {
			all := manyUDP(t, family, 4)
			for _, fd := range all[1:] {
				if setSomehow(rng, fd, &o) {
					tried++
				}
			}
			of = a.udpGroups(t)
			for _, fd := range append(all, fds[:2]...) {
				want, err := kernel.Save(fd, make([]socket.Value, len(kernel.Table)), true)
				must(t, err)
				g := of[int32(fd)]
				if g == nil {
					t.Fatalf("%s: a socket has no group", o.Name)
				}
				if !g.Known() {
					g.Learn(want)
					continue
				}
				got, err := g.Save(fd)
				must(t, err)
				if !got.Same(&want) {
					t.Errorf("%s was set, and others in its group have other options", o.Name)
				}
			}
		}
		if tried < 100 {
			t.Errorf("only %d options were set", tried)
		}
	}
}

// What is attached to a UDP socket makes it unlike those without.
func TestUnlikeUDP(t *testing.T) {
	fds := manyUDP(t, unix.AF_INET, severalDescriptors)
	_, a := learnt(t)
	drop := unix.SockFilter{Code: 6, K: 1 << 16}
	for name, set := range map[string]func(fd int) error{
		"SO_ATTACH_FILTER": func(fd int) error {
			return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
		},
		"SO_BINDTOIFINDEX": func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 1) },
		"IP_OPTIONS":       func(fd int) error { return linux.Setsockopt(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, []byte{1, 1, 1, 0}) },
		"IP_MULTICAST_IF": func(fd int) error {
			return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: 1})
		},
		"IP_ADD_MEMBERSHIP": func(fd int) error {
			return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: [4]byte{224, 1, 1, 1}, Ifindex: 1})
		},
	} {
		fd := manyUDP(t, unix.AF_INET, 1)[0]
		if err := set(fd); err != nil {
			if !errors.Is(err, unix.ENODEV) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if g := a.udpGroups(t); g[int32(fd)] == nil || g[int32(fd)] == g[int32(fds[0])] {
			t.Errorf("a socket with %s is like one without", name)
		}
	}
}

// Nor is one of IPv6 like others if only the kernel's memory tells why.
func TestUnlikeUDP6(t *testing.T) {
	fds := manyUDP(t, unix.AF_INET6, severalDescriptors)
	_, a := learnt(t)
	for name, set := range map[string]func(fd int) error{
		"IPV6_MTU": func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU, 1400) },
		"IPV6_PKTINFO": func(fd int) error {
			return unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, string(make([]byte, 16))+"\x01\x00\x00\x00")
		},
	} {
		fd := manyUDP(t, unix.AF_INET6, 1)[0]
		if err := set(fd); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if g := a.udpGroups(t); g[int32(fd)] == nil || g[int32(fd)] == g[int32(fds[0])] {
			t.Errorf("a socket with %s is like one without", name)
		}
	}
}
