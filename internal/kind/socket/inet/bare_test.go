package inet

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

func rawSocket(t *testing.T, family, protocol int) *fd.FD {
	t.Helper()
	n, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	must(t, err)
	d := fd.New(n)
	t.Cleanup(func() { d.Close() })
	return d
}

const mrtInit = 200 // MRT_INIT of include/uapi/linux/mroute.h

// awaitPacket sends a packet to a raw socket over loopback, and waits for it.
func awaitPacket(t *testing.T, d *fd.FD, from *fd.FD, to unix.Sockaddr, data []byte) {
	t.Helper()
	must(t, unix.Sendto(from.Int(), data, 0, to))
	n, err := testkit.PollFds([]unix.PollFd{{Fd: int32(d.Int()), Events: unix.POLLIN}}, 10000)
	must(t, err)
	if n == 0 {
		t.Fatalf("% x doesn't arrive", data)
	}
}

func TestBareRefused(t *testing.T) {
	const experiment = 253 // a protocol that nobody speaks
	here, here6 := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	for want, x := range map[string]struct {
		family, protocol int
		to               unix.Sockaddr
		data             []byte
		options          bool
	}{
		"protocol 17":          {unix.AF_INET, unix.IPPROTO_UDP, here, make([]byte, 8), false},
		"protocol 2":           {unix.AF_INET, unix.IPPROTO_IGMP, here, make([]byte, 8), false},
		"messages of type 42":  {unix.AF_INET, unix.IPPROTO_ICMP, here, []byte{42, 0, 0, 0, 0, 0, 0, 0}, false},
		"messages of type 133": {unix.AF_INET6, unix.IPPROTO_ICMPV6, here6, []byte{133, 0, 0, 0, 0, 0, 0, 0}, false},
		"has options":          {unix.AF_INET, experiment, here, []byte("x"), true},
	} {
		d, from := rawSocket(t, x.family, x.protocol), rawSocket(t, x.family, x.protocol)
		if x.options {
			must(t, unix.SetsockoptString(from.Int(), unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x01"))
		}
		awaitPacket(t, d, from, x.to, x.data)
		if _, err := New().memory(); err != nil {
			want = "in its queue"
		}
		refused(t, options.NewDump(), d.Int(), want)
	}
	routes := rawSocket(t, unix.AF_INET, unix.IPPROTO_IGMP)
	must(t, linux.SockOpt{Level: unix.IPPROTO_IP, Name: mrtInit, Value: 1}.Set(routes.Int()))
	if _, err := New().memory(); err == nil { // else it isn't noticed
		refused(t, options.NewDump(), routes.Int(), "MRT_INIT")
	}
	six := rawSocket(t, unix.AF_INET6, unix.IPPROTO_RAW)
	must(t, unix.SetsockoptInt(six.Int(), unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT, 5))
	refused(t, options.NewDump(), six.Int(), "IP_ROUTER_ALERT")
	must(t, unix.SetsockoptInt(six.Int(), unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT, -1))
	if gets, err := alerted(six.Int(), unix.AF_INET6); gets || err != nil {
		t.Errorf("gets alerts: %v, %v", gets, err)
	}
	// A look for alerts leaves none, and neither does what is told of them change.
	told := func(six *fd.FD) int {
		v, err := unix.GetsockoptInt(six.Int(), unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT)
		must(t, err)
		return v
	}
	six = rawSocket(t, unix.AF_INET6, unix.IPPROTO_RAW)
	for _, want := range []bool{false, true} {
		for range 2 {
			if gets, err := alerted(six.Int(), unix.AF_INET6); gets != want || err != nil || told(six) != 0 {
				t.Errorf("gets alerts: %v, %v, and tells %d", gets, err, told(six))
			}
		}
		if !want {
			must(t, unix.SetsockoptInt(six.Int(), unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT, 0))
		}
	}
	if err := unix.SetsockoptInt(six.Int(), unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT, 7); err != unix.EADDRINUSE {
		t.Errorf("it had an alert, and takes another: %v", err)
	}
	plain := rawSocket(t, unix.AF_INET, experiment)
	for range 2 {
		if gets, err := alerted(plain.Int(), unix.AF_INET); gets || err != nil {
			t.Error("a socket gets router alerts that it never asked for")
		}
	}
}

// Two restores at once put packets into sockets of one protocol, each its own.
func TestTwoGates(t *testing.T) {
	const experiment = 253
	testkit.RequireRoot(t)
	r := &received{header: []byte{4<<4 | 5, 0, 0, 21, 0, 0, 0, 0, 64, experiment, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1}, body: []byte("x")}
	n := &bareNode{sort: sort{family: unix.AF_INET, protocol: experiment, bare: unix.SOCK_RAW}, queue: []*received{r}}
	var gates []*gate
	for len(gates) < 2 {
		g, err := newGate()
		must(t, err)
		if len(gates) > 0 && g.mark == gates[0].mark { // by chance, one time in 4,096
			must(t, g.Close())
			continue
		}
		defer g.Close()
		gates = append(gates, g)
	}
	for _, g := range gates {
		own := rawSocket(t, unix.AF_INET, experiment).Int()
		must(t, g.open(own))
		must(t, n.fill(own, g.mark))
	}
}

func TestBareNonsense(t *testing.T) {
	entry := func(change func(in *sk_inet.InetSkEntry)) *fdinfo.FileEntry {
		number := proto.Uint32
		in := &sk_inet.InetSkEntry{
			Id: number(1), Family: number(unix.AF_INET), Type: number(unix.SOCK_RAW), Proto: number(unix.IPPROTO_ICMP), State: number(closed),
			SrcAddr: []uint32{0}, DstAddr: []uint32{0}, SrcPort: number(1), DstPort: number(0), Flags: number(2), Backlog: number(0),
		}
		change(in)
		return &fdinfo.FileEntry{Id: number(1), Isk: in}
	}
	for want, change := range map[string]func(in *sk_inet.InetSkEntry){
		"called":       func(in *sk_inet.InetSkEntry) { in.Id = proto.Uint32(2) },
		"AF_UNIX":      func(in *sk_inet.InetSkEntry) { in.Family = proto.Uint32(unix.AF_UNIX) },
		"state":        func(in *sk_inet.InetSkEntry) { in.State = proto.Uint32(listening) },
		"protocol 263": func(in *sk_inet.InetSkEntry) { in.Proto = proto.Uint32(263) },
		"of 0 words":   func(in *sk_inet.InetSkEntry) { in.SrcAddr = nil },
		"ICMPV6_FILTER": func(in *sk_inet.InetSkEntry) {
			in.Family, in.Proto = proto.Uint32(unix.AF_INET6), proto.Uint32(unix.IPPROTO_ICMPV6)
			in.IpOpts = &sk_inet.IpOptsEntry{Raw: &sk_inet.IpOptsRawEntry{IcmpvFilter: []uint32{1}}}
		},
	} {
		if err := New().planBare(nil, entry(change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// What waits according to hostile images is looked at before anything is made.
func TestReceivedNonsense(t *testing.T) {
	four := sort{family: unix.AF_INET, protocol: 253, bare: unix.SOCK_RAW}
	six := sort{family: unix.AF_INET6, protocol: 253, bare: unix.SOCK_RAW}
	header := func(change func(h []byte)) []byte {
		h := make([]byte, ip4Header)
		h[0], h[3], h[9] = 0x45, ip4Header+1, 253
		change(h)
		return h
	}
	header6 := append([]byte{0x60, 0, 0, 0, 0, 1, 253, 1}, make([]byte, 32)...)
	for want, x := range map[string]struct {
		sort
		header []byte
		device string
	}{
		"":             {four, header(func([]byte) {}), ""},
		"options":      {four, header(func(h []byte) { h[0]++ }), ""},
		"has options":  {four, nil, ""},
		"a part":       {four, header(func(h []byte) { h[3]++ }), ""},
		"part of one":  {four, header(func(h []byte) { h[7] = 1 }), ""},
		"protocol 1":   {four, header(func(h []byte) { h[9] = 1 }), ""},
		"no interface": {six, header6, "lo"},
		"can't be":     {six, header6[:39], ""},
		"extensions":   {six, append([]byte{0x60, 0, 0, 0, 0, 1, 0, 1}, make([]byte, 32)...), ""},
		"part of":      {six, append([]byte{0x60, 0, 0, 0, 1, 1, 253, 1}, make([]byte, 32)...), ""},
	} {
		e := &extra.QueuedMessage{Socket: proto.Uint32(1), Header: x.header, Data: []byte{1}}
		if x.device != "" {
			e.Interface = &x.device
		}
		_, err := x.parseReceived(e)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
