package inet

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
)

// A socket like one that nobody has: options are found, also such as are numbers, and what
// can't be told is said.
func TestLone(t *testing.T) {
	m, err := sockmem.OpenMemory()
	if errors.Is(err, kmem.ErrUnavailable) {
		testkit.KernelMemory(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	k := New()
	defer k.Close()
	set := func(level, opt, v int) func(int) error {
		return func(n int) error { return unix.SetsockoptInt(n, level, opt, v) }
	}
	here := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	bind := func(n int) error { return unix.Bind(n, address{ip: here}.sockaddr(unix.AF_INET, 0)) }
	listen := func(n int) error { return unix.Listen(n, 7) }
	for _, c := range []struct {
		name string
		sort sort
		make []func(int) error
		why  string
	}{
		{name: "new", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}},
		{name: "new6", sort: sort{family: unix.AF_INET6, protocol: unix.IPPROTO_TCP}},
		{name: "bound", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, make: []func(int) error{bind}},
		{name: "listener", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, make: []func(int) error{bind, listen}},
		{name: "deferring", sort: sort{family: unix.AF_INET6, protocol: unix.IPPROTO_TCP}, make: []func(int) error{
			set(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 600), func(n int) error { return unix.Bind(n, &unix.SockaddrInet6{}) }, listen,
		}},
		{name: "options", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, make: []func(int) error{
			set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15), set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
			set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 9000), set(unix.SOL_SOCKET, unix.SO_MARK, 99), bind, listen,
		}},
		{name: "times", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, make: []func(int) error{
			func(n int) error {
				return unix.SetsockoptTimeval(n, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 3, Usec: 500_000})
			},
			func(n int) error {
				return unix.SetsockoptLinger(n, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 9})
			},
			func(n int) error { return unix.SetsockoptUint64(n, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, 5<<32|7) },
			func(n int) error { return unix.SetsockoptString(n, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") },
		}},
		{name: "UDP", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_UDP}, make: []func(int) error{
			set(unix.SOL_SOCKET, unix.SO_RCVBUF, 70000), set(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 1), set(unix.SOL_SOCKET, unix.SO_BROADCAST, 1), bind,
		}},
		{name: "UDP6", sort: sort{family: unix.AF_INET6, protocol: unix.IPPROTO_UDP}, make: []func(int) error{set(unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 9)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := c.sort.like()
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(n)
			for _, f := range c.make {
				if err := f(n); err != nil {
					t.Fatal(err)
				}
			}
			at, err := m.File(n)
			if err != nil {
				t.Fatal(err)
			}
			x, err := m.Lone(at)
			if err != nil {
				t.Fatal(err)
			}
			own, why, err := k.Lone(m, x)
			if err != nil || why != "" {
				t.Fatalf("%v, %s", err, why)
			}
			defer own.Close()
			kernel := k.kernels[c.sort]
			for _, o := range kernel.Table {
				a, err1 := o.Read(n)
				b, err2 := o.Read(own.Int())
				if a != b || (err1 == nil) != (err2 == nil) {
					t.Errorf("%s is %v, not %v", o.Name, b, a)
				}
			}
		})
	}
}
