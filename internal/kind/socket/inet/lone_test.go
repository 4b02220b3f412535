package inet

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
)

// A socket like one that nobody has: options are found, also such as are numbers, and what
// can't be told is said.
func TestLone(t *testing.T) {
	m, k := loneKind(t)
	set := func(level, opt, v int) func(int) error {
		return func(n int) error { return unix.SetsockoptInt(n, level, opt, v) }
	}
	here := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	bind := func(n int) error { return unix.Bind(n, address{ip: here}.sockaddr(unix.AF_INET, 0)) }
	listen := func(n int) error { return unix.Listen(n, 7) }
	for _, c := range []loneCase{
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
		c.run(t, m, k)
	}
}

// loneCase is a socket that another one is made like, or why none can be.
type loneCase struct {
	name string
	sort sort
	make []func(int) error
	why  string
}

func (c *loneCase) run(t *testing.T, m *sockmem.Memory, k *Kind) {
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
		if err != nil || c.why == "" && why != "" || !strings.Contains(why, c.why) {
			t.Fatalf("%v, %s", err, why)
		}
		if own == nil {
			return
		}
		defer own.Close()
		var has [2]*attached
		for i, n := range []int{n, own.Int()} {
			sk, err := m.Sock(n)
			if err == nil {
				has[i], err = k.attachedAt(c.sort, sk)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(has[0], has[1]) {
			t.Errorf("attached is %+v, not %+v", has[1], has[0])
		}
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

func loneKind(t *testing.T) (*sockmem.Memory, *Kind) {
	t.Helper()
	m, err := sockmem.OpenMemory()
	if errors.Is(err, kmem.ErrUnavailable) {
		testkit.KernelMemory(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	k := New()
	t.Cleanup(func() { k.Close() })
	return m, k
}

// What is attached to it, and is in memory of its own, another one gets, too.
func TestLoneAttached(t *testing.T) {
	m, k := loneKind(t)
	here := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	set := func(level, opt, v int) func(int) error {
		return func(n int) error { return unix.SetsockoptInt(n, level, opt, v) }
	}
	bind := func(n int) error { return unix.Bind(n, address{ip: here}.sockaddr(unix.AF_INET, 0)) }
	listen := func(n int) error { return unix.Listen(n, 7) }
	filter := func(n int) error { return socket.AttachSame(n, &extra.SocketProgram{Classic: []uint64{6<<48 | 99}}) }
	key := func(n int) error {
		err := (&secret{peers: netip.MustParsePrefix("127.0.0.0/8"), bytes: []byte("glis")}).set(n, unix.AF_INET)
		if err != nil {
			testkit.Lacks(t, "CONFIG_TCP_MD5SIG", err, unix.ENOPROTOOPT)
		}
		return nil
	}
	join := func(group string, from ...string) func(int) error {
		g := &membership{group: netip.MustParseAddr(group), local: here, device: "lo", only: len(from) > 0}
		for _, f := range from {
			g.sources = append(g.sources, netip.MustParseAddr(f))
		}
		return g.join
	}
	long := func(level, opt int, value ...byte) func(int) error {
		return func(n int) error { return linux.Setsockopt(n, level, opt, value) }
	}
	for _, c := range []loneCase{
		{name: "locked filter", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_UDP}, make: []func(int) error{filter, set(unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1), set(unix.SOL_SOCKET, unix.SO_PRIORITY, 4)}},
		{name: "filter of TCP", sort: sort{family: unix.AF_INET6, protocol: unix.IPPROTO_TCP}, make: []func(int) error{filter}},
		{name: "key", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, make: []func(int) error{key, bind, listen}},
		{name: "groups", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_UDP}, make: []func(int) error{join("239.7.8.9"), join("239.7.8.10", "127.0.0.1", "127.0.0.2"), join("239.7.8.11")}},
		{name: "headers", sort: sort{family: unix.AF_INET6, protocol: unix.IPPROTO_UDP}, make: []func(int) error{
			long(unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, 0, 0, 1, 4, 0, 0, 0, 0), long(unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, 0, 0, 1, 4, 0, 0, 0, 0), long(unix.IPPROTO_IP, unix.IP_OPTIONS, 148, 4, 0, 0),
		}},
		{name: "IP options of TCP", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, make: []func(int) error{long(unix.IPPROTO_IP, unix.IP_OPTIONS, 148, 4, 0, 0)}},
		{name: "a route that is recorded", sort: sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, make: []func(int) error{long(unix.IPPROTO_IP, unix.IP_OPTIONS, 7, 7, 4, 0, 0, 0, 0, 0)}},
	} {
		c.run(t, m, k)
	}
}

// IP options that the kernel changes when they are set are what a call tells of them.
func TestLoneIPOptions(t *testing.T) {
	m, k := loneKind(t)
	for _, c := range []struct {
		name  string
		value []byte
	}{
		{"a route that is recorded", []byte{7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"with something in it", []byte{7, 11, 8, 127, 0, 0, 9, 0, 0, 0, 0, 0}},
		{"full", []byte{7, 7, 8, 127, 0, 0, 9, 0}},
		{"a loose route", []byte{131, 11, 4, 127, 0, 0, 2, 127, 0, 0, 3, 0}},
		{"a loose route of one", []byte{131, 7, 4, 127, 0, 0, 2, 0}},
		{"a strict route", []byte{137, 11, 4, 127, 0, 0, 2, 127, 0, 0, 3, 0}},
		{"times", []byte{68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"times and hops", []byte{68, 20, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"times of a host of ours", []byte{68, 20, 5, 3, 127, 0, 0, 1, 0, 0, 0, 0, 127, 0, 0, 2, 0, 0, 0, 0}},
		{"times of another host", []byte{68, 20, 5, 3, 9, 9, 9, 9, 0, 0, 0, 0, 127, 0, 0, 2, 0, 0, 0, 0}},
		{"all", []byte{131, 11, 4, 127, 0, 0, 2, 127, 0, 0, 3, 7, 7, 4, 0, 0, 0, 0, 68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 148, 4, 0, 0}},
	} {
		n, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(n)
		if err := linux.Setsockopt(n, unix.IPPROTO_IP, unix.IP_OPTIONS, c.value); err != nil {
			t.Errorf("%s: set: %v", c.name, err)
			continue
		}
		want := make([]byte, 64)
		size, err := linux.Getsockopt(n, unix.IPPROTO_IP, unix.IP_OPTIONS, want)
		if err != nil {
			t.Fatal(err)
		}
		sk, err := m.Sock(n)
		if err != nil {
			t.Fatal(err)
		}
		a, err := k.attachedAt(sort{family: unix.AF_INET, protocol: unix.IPPROTO_UDP}, sk)
		if err != nil || len(a.long) != 1 {
			t.Errorf("%s: %+v, %v", c.name, a, err)
			continue
		}
		if got := a.long[0].Value; !bytes.Equal(got, want[:size]) {
			t.Errorf("%s: %v, and a call tells %v", c.name, got, want[:size])
		}
	}
}
