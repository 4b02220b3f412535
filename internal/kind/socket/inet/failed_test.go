package inet

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

var (
	ping4 = sort{family: unix.AF_INET, protocol: unix.IPPROTO_ICMP, bare: unix.SOCK_DGRAM}
	ping6 = sort{family: unix.AF_INET6, protocol: unix.IPPROTO_ICMPV6, bare: unix.SOCK_DGRAM}
	raw4  = sort{family: unix.AF_INET, protocol: 253, bare: unix.SOCK_RAW}
	raw6  = sort{family: unix.AF_INET6, protocol: 253, bare: unix.SOCK_RAW}
	icmp4 = sort{family: unix.AF_INET, protocol: unix.IPPROTO_ICMP, bare: unix.SOCK_RAW}
	icmp6 = sort{family: unix.AF_INET6, protocol: unix.IPPROTO_ICMPV6, bare: unix.SOCK_RAW}
)

// unreached makes a socket that is told, by ICMP messages of these types and codes,
// what became of what it has sent. It has asked for all that are, or for none.
func unreached(t *testing.T, s sort, asked int, messages ...[2]byte) int {
	t.Helper()
	level, opt, here := unix.IPPROTO_IP, unix.IP_RECVERR, "127.0.0.1"
	if s.family == unix.AF_INET6 {
		level, opt, here = unix.IPPROTO_IPV6, unix.IPV6_RECVERR, "::1"
	}
	n, err := s.like()
	must(t, err)
	must(t, unix.SetsockoptInt(n, level, opt, asked))
	switch s { // the messages themselves
	case icmp4:
		must(t, unix.SetsockoptInt(n, solRaw, icmpFilter, -1))
	case icmp6:
		must(t, linux.Setsockopt(n, unix.IPPROTO_ICMPV6, icmp6Filter, bytes.Repeat([]byte{0xff}, sizeFilter6)))
	}
	ip := netip.MustParseAddr(here)
	must(t, unix.Bind(n, address{ip, 7017}.sockaddr(s.family, 0)))
	must(t, unix.Connect(n, address{ip, 7018}.sockaddr(s.family, 0)))
	for i, m := range messages {
		sent := &datagram{from: ip, to: ip, hops: 9, class: 4, body: []byte{7017 >> 8, 7017 & 0xff, 7018 >> 8, 7018 & 0xff, 0, udpHeader + 1, 0, 0, byte(i)}}
		at := 6
		if s.bare != 0 {
			sent.body, at = []byte{8, 0, 0, 0, 7017 >> 8, 7017 & 0xff, 0, byte(i), 'x'}, 2
			if ip.Is6() {
				sent.body[0] = 128
			}
		}
		protocol := uint8(unix.IPPROTO_ICMP)
		if ip.Is6() {
			protocol = unix.IPPROTO_ICMPV6
		}
		d := &datagram{from: ip, to: ip, hops: 64, body: append([]byte{m[0], m[1], 0, 0, 0, 0, 0, byte(i)}, sent.packet(uint8(s.protocol), at).Bytes()...)}
		must(t, d.packet(protocol, 2).Send(ip))
	}
	must(t, arrived(func() (bool, error) {
		p := []unix.PollFd{{Fd: int32(n)}}
		_, err := linux.PollNow(p)
		return p[0].Revents&unix.POLLERR != 0, err
	}))
	return n
}

// reports is all that a socket tells of what went wrong, which takes it.
func reports(t *testing.T, n int) (out []string) {
	t.Helper()
	e, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ERROR)
	must(t, err)
	out = append(out, unix.Errno(e).Error())
	for {
		var b, c [256]byte
		k, m, flags, from, err := unix.Recvmsg(n, b[:], c[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return append(out, err.Error())
		}
		out = append(out, fmt.Sprintf("% x, % x, %#x, %v", b[:k], c[:m], flags, decode(from)))
	}
}

// Errors that wait at a socket of UDP, of ping or at a raw one are told once more, all of them.
func TestErrors(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	four := [][2]byte{{3, 2}, {3, 3}, {3, 6}, {3, 7}, {3, 8}, {3, 10}, {3, 13}, {12, 0}, {11, 0}, {3, 1}}
	six := [][2]byte{{1, 1}, {1, 4}, {1, 5}, {1, 6}, {4, 0}, {3, 0}, {1, 0}}
	testkit.RequireRoot(t)
	pings(t)
	for _, s := range []sort{udp4, udp6, ping4, ping6, raw4, raw6, icmp4, icmp6} {
		if !possible(t, s) {
			t.Errorf("%v: no such sockets", s)
			continue
		}
		all := four
		if s.family == unix.AF_INET6 {
			all = six
		}
		for i, m := range all {
			hard := s.family == unix.AF_INET && i < 8 || s.family == unix.AF_INET6 && i < 5
			for _, asked := range []int{0, 1} {
				if asked == 0 && !hard { // of which it isn't told
					continue
				}
				told := [][2]byte{m}
				if asked == 1 {
					told = append(told, all[(i+1)%len(all)], m)
				}
				toldAgain(t, func() int { return unreached(t, s, asked, told...) }, fmt.Sprint(s, asked, told))
			}
		}
		// Who asks since is told the error alone.
		toldAgain(t, func() int {
			n := unreached(t, s, 0, all[0])
			level, opt := unix.IPPROTO_IP, unix.IP_RECVERR
			if s.family == unix.AF_INET6 {
				level, opt = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
			}
			must(t, unix.SetsockoptInt(n, level, opt, 1))
			return n
		}, "asked since")
		// The messages stay when the error was read.
		toldAgain(t, func() int {
			n := unreached(t, s, 1, all[0], all[1])
			_, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ERROR)
			must(t, err)
			return n
		}, "error read")
	}
}

// toldAgain compares what a socket reports with what its restored likeness does.
func toldAgain(t *testing.T, made func() int, what string) {
	t.Helper()
	t.Run(what, func(t *testing.T) {
		n := made()
		want := reports(t, n)
		must(t, unix.Close(n))
		n = made()
		in, err := dumped(t, &options.Dump{}, n)
		must(t, err)
		must(t, unix.Close(n))
		if got := reports(t, restored(t, in)[1]); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A UDP socket that was connected to somebody else since is told what it was told, too, also
// one of IPv6 that is connected to IPv4 by now; of one that lost its port that is refused.
func TestErrorsOfOthers(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	testkit.RequireRoot(t)
	for _, s := range []sort{udp4, udp6} {
		level, opt, ip := unix.IPPROTO_IP, unix.IP_RECVERR, netip.MustParseAddr("127.0.0.1")
		peers := []netip.Addr{ip}
		if s.family == unix.AF_INET6 {
			level, opt, ip = unix.IPPROTO_IPV6, unix.IPV6_RECVERR, netip.IPv6Loopback()
			peers = []netip.Addr{ip, netip.MustParseAddr("::ffff:127.0.0.1")}
		}
		for _, peer := range peers {
			for _, asked := range []int{0, 1} {
				made := func() int {
					n, err := s.like()
					must(t, err)
					must(t, unix.SetsockoptInt(n, level, opt, asked))
					must(t, setPorts(n, 7017<<16|7017))
					must(t, unix.Connect(n, address{ip, 7018}.sockaddr(s.family, 0)))
					must(t, unix.Send(n, []byte("x"), 0))
					must(t, unix.Connect(n, address{peer, 7019}.sockaddr(s.family, 0)))
					return n
				}
				toldAgain(t, made, fmt.Sprint(s, peer, asked))
			}
		}
		n, err := s.like()
		must(t, err)
		must(t, unix.SetsockoptInt(n, level, opt, 1))
		must(t, unix.Connect(n, address{ip, 7018}.sockaddr(s.family, 0)))
		must(t, unix.Send(n, []byte("x"), 0))
		must(t, linux.Connect(n, make([]byte, 16)))
		if _, err := dumped(t, &options.Dump{}, n); !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), "an error (connection refused) waits to be reported") {
			t.Errorf("%v, without a port: %v", s, err)
		}
		must(t, unix.Close(n))
	}
}

// A UDP socket of IPv6 that was told of packets of IPv4, too, and is connected since, or the
// other way round, could not be connected to those they were for.
func TestErrorsOfBothFamilies(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	six, four := netip.IPv6Loopback(), netip.MustParseAddr("::ffff:127.0.0.1")
	for _, x := range [][2]netip.Addr{{four, six}, {six, four}} {
		d := udp6.make(t)
		must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0))
		must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1))
		must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IP, unix.IP_RECVERR, 1))
		must(t, unix.Sendto(d.Int(), []byte("x"), 0, address{x[0], 7018}.sockaddr(unix.AF_INET6, 0)))
		in, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		_, err = planned(in)
		must(t, err)
		must(t, unix.Connect(d.Int(), address{x[1], 7019}.sockaddr(unix.AF_INET6, 0)))
		if _, err := dumped(t, &options.Dump{}, d.Int()); !errors.Is(err, kind.ErrUnsupported) {
			t.Errorf("of %v, connected to %v: %v", x[0], x[1], err)
		}
	}
}

// Hostile images of errors at sockets without ports.
func TestErrorsHostile(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	testkit.RequireRoot(t)
	pings(t)
	for what, change := range map[string]func(in *sk_inet.InetSkEntry, d *extra.Datagram, e *extra.SocketEntry){
		"":          func(*sk_inet.InetSkEntry, *extra.Datagram, *extra.SocketEntry) {},
		"no number": func(in *sk_inet.InetSkEntry, _ *extra.Datagram, _ *extra.SocketEntry) { in.SrcPort = proto.Uint32(0) },
		"no error":  func(_ *sk_inet.InetSkEntry, d *extra.Datagram, _ *extra.SocketEntry) { d.Error = nil },
		"the other family": func(_ *sk_inet.InetSkEntry, d *extra.Datagram, _ *extra.SocketEntry) {
			d.From, d.To = make([]byte, 16), make([]byte, 16)
		},
		"no message": func(_ *sk_inet.InetSkEntry, d *extra.Datagram, e *extra.SocketEntry) {
			d.Socket, e.Error = proto.Uint32(9), proto.Uint32(uint32(unix.EMSGSIZE))
		},
		"another socket": func(_ *sk_inet.InetSkEntry, d *extra.Datagram, e *extra.SocketEntry) {
			d.Socket, e.Error = proto.Uint32(9), nil
		},
	} {
		n := unreached(t, ping4, 1, [2]byte{3, 3})
		in, err := dumped(t, &options.Dump{}, n)
		must(t, errors.Join(err, unix.Close(n)))
		change(in[of(image.Files)][0].Message.(*fdinfo.FileEntry).Isk, in[of(extra.Datagrams)][0].Message.(*extra.Datagram), in[of(extra.Sockets)][0].Message.(*extra.SocketEntry))
		if _, err := planned(in); (err == nil) != (what == "") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// Errors of a raw socket that others would be told of, too, are refused, at the dump and
// before a restore; and the messages themselves nobody hears.
func TestRawErrors(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	testkit.RequireRoot(t)
	n := unreached(t, raw4, 1, [2]byte{3, 3})
	other := rawSocket(t, unix.AF_INET, raw4.protocol)
	refused(t, &options.Dump{}, n, "another raw socket")
	must(t, other.Close())
	in, err := dumped(t, &options.Dump{}, n)
	must(t, errors.Join(err, unix.Close(n)))
	other = rawSocket(t, unix.AF_INET, raw4.protocol)
	nodes, err := planned(in)
	must(t, err)
	check := func(nodes []plan.Node) error { return nodes[0].(plan.Checked).Check(&plan.CheckEnv{}) }
	if err := check(nodes); err == nil || !strings.Contains(err.Error(), "another raw socket") {
		t.Errorf("got %v", err)
	}
	must(t, other.Close())
	nodes, err = planned(in)
	must(t, errors.Join(err, check(nodes)))
	hears := rawSocket(t, unix.AF_INET, unix.IPPROTO_ICMP)
	restored(t, in)
	if _, _, err := unix.Recvfrom(hears.Int(), make([]byte, 100), unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("another socket hears of it: %v", err)
	}
}
