package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// queuedImages are those of a UDP socket with a datagram in its queue, and part
// of one to be sent.
func queuedImages(t *testing.T) images {
	t.Helper()
	d, c := udp4.bound(t, "127.0.0.1"), udp4.bound(t, "127.0.0.1")
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	must(t, unix.Sendmsg(c.Int(), []byte("datagram"), nil, at, 0))
	must(t, unix.Sendmsg(d.Int(), []byte("part"), nil, at, unix.MSG_MORE))
	return queuedAt(t, d)
}

// queuedAt dumps a socket with something in its queue, and closes it. Where a
// restore can put a datagram back, no dump may refuse one.
func queuedAt(t *testing.T, d *fd.FD) images {
	t.Helper()
	in, err := dumped(t, &options.Dump{}, d.Int())
	if errors.Is(err, kind.ErrUnsupported) && testkit.Kernel(t).Less(testkit.Version{Major: 6, Minor: 6}) {
		t.Skip("TCX, Linux 6.6:", err)
	}
	must(t, err)
	must(t, d.Close())
	return in
}

// comes checks what is next in a queue.
func comes(t *testing.T, fds map[plan.ID]int, want string) {
	t.Helper()
	var b [20]byte
	n, _, err := unix.Recvfrom(fds[1], b[:], unix.MSG_DONTWAIT)
	if err != nil || string(b[:n]) != want {
		t.Errorf("%q, %v", b[:max(n, 0)], err)
	}
}

func TestQueued(t *testing.T) {
	fds := restored(t, queuedImages(t))
	comes(t, fds, "datagram")
	must(t, unix.SetsockoptInt(fds[1], unix.IPPROTO_UDP, unix.UDP_CORK, 1))
	must(t, unix.SetsockoptInt(fds[1], unix.IPPROTO_UDP, unix.UDP_CORK, 0)) // sends it
	comes(t, fds, "part")
}

// What comes while the queue is filled does not get in front of what was there.
func TestQueuedFirst(t *testing.T) {
	d := udp4.bound(t, "127.0.0.1")
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	from := udp4.make(t)
	must(t, unix.Sendto(from.Int(), []byte("old"), 0, at))
	in, err := dumped(t, options.NewDump(), d.Int())
	testkit.KernelMemory(t, err)
	must(t, d.Close())
	var stop atomic.Bool
	var sending sync.WaitGroup
	sending.Go(func() {
		for !stop.Load() {
			_ = unix.Sendto(from.Int(), []byte("new"), 0, at)
		}
	})
	fds := restored(t, in)
	// It hears others again.
	for _, want := range []string{"old", "new"} {
		_, err := testkit.PollFds([]unix.PollFd{{Fd: int32(fds[1]), Events: unix.POLLIN}}, int(testkit.Patience.Milliseconds()))
		must(t, err)
		var b [8]byte
		n, _, err := unix.Recvfrom(fds[1], b[:], unix.MSG_DONTWAIT)
		if err != nil || string(b[:n]) != want {
			t.Errorf("read %q, %v, want %q", b[:max(n, 0)], err, want)
		}
	}
	stop.Store(true)
	sending.Wait()
}

// Datagrams that the kernel has put together come back one by one.
func TestQueuedTogether(t *testing.T) {
	d, c := udp4.bound(t, "127.0.0.1"), udp4.bound(t, "127.0.0.1")
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_UDP, unix.UDP_GRO, 1))
	must(t, unix.SetsockoptInt(c.Int(), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 4))
	must(t, unix.Sendmsg(c.Int(), []byte("one two three"), nil, at, 0))
	fds := restored(t, queuedAt(t, d))
	for _, want := range []string{"one ", "two ", "thre", "e"} {
		comes(t, fds, want)
	}
}

// Datagrams between link-local addresses, and to a group of theirs, come back with
// their interface, and an error of such a peer does.
func TestQueuedLinkLocal(t *testing.T) {
	there := wired(t)
	index := testkit.Here().Index(t, "glis-a")
	d := udp6.bound(t, "::")
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	group := [16]byte{0xff, 0x02, 15: 0x77}
	must(t, unix.SetsockoptIPv6Mreq(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group, Interface: uint32(index)}))
	before := uint32(0)
	for _, to := range []string{"fe80::a%glis-b", "ff02::77%glis-b"} {
		c, err := there.Dial("udp", net.JoinHostPort(to, fmt.Sprint(decode(sa).port)))
		must(t, err)
		defer c.Close()
		_, err = c.Write([]byte(to))
		must(t, err)
		must(t, arrived(func() (bool, error) { // it may have to find its neighbour first
			n, err := socket.MemInfo(d.Int(), unix.SK_MEMINFO_RMEM_ALLOC)
			more := n > before
			before = max(n, before)
			return more, err
		}))
	}
	fds := restored(t, queuedAt(t, d))
	for _, want := range []string{"fe80::a%glis-b", "ff02::77%glis-b"} {
		var b [20]byte
		n, from, err := unix.Recvfrom(fds[1], b[:], unix.MSG_DONTWAIT)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("%q, %v", b[:max(n, 0)], err)
		}
		if a := from.(*unix.SockaddrInet6); int(a.ZoneId) != index || netip.AddrFrom16(a.Addr).String() != "fe80::b" {
			t.Errorf("%s comes from %v at interface %d, not %d", want, netip.AddrFrom16(a.Addr), a.ZoneId, index)
		}
	}
}

func TestErrorLinkLocal(t *testing.T) {
	wired(t)
	for _, queued := range []int{0, 1} {
		d := udp6.make(t)
		must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, queued))
		must(t, unix.Connect(d.Int(), &unix.SockaddrInet6{Port: 7008, Addr: [16]byte{0xfe, 0x80, 15: 0xb}, ZoneId: uint32(testkit.Here().Index(t, "glis-a"))}))
		must(t, unix.Sendto(d.Int(), []byte("x"), 0, nil))
		must(t, arrived(func() (bool, error) {
			p := []unix.PollFd{{Fd: int32(d.Int())}}
			_, err := linux.PollNow(p)
			return p[0].Revents&unix.POLLERR != 0, err
		}))
		fds := restored(t, queuedAt(t, d))
		if n, err := unix.GetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_ERROR); err != nil || unix.Errno(n) != unix.ECONNREFUSED {
			t.Errorf("error %v, %v", unix.Errno(n), err)
		}
	}
}

// lites are UDP-Lite sockets, where the kernel has them.
func lites(t *testing.T) sort {
	t.Helper()
	s := sort{family: unix.AF_INET, protocol: unix.IPPROTO_UDPLITE}
	if !possible(t, s) {
		t.Skip("no UDP-Lite, which kernels after Linux 7.0 don't have")
	}
	return s
}

// What waits at a UDP-Lite socket is refused where a packet would not find it.
func TestLiteRefused(t *testing.T) {
	s := lites(t)
	for name, opt := range map[string]int{"SO_REUSEADDR": unix.SO_REUSEADDR, "SO_BINDTODEVICE": unix.SO_BINDTODEVICE} {
		d, c := s.bound(t, "127.0.0.1"), s.bound(t, "127.0.0.1")
		at, err := unix.Getsockname(d.Int())
		must(t, err)
		must(t, unix.Sendmsg(c.Int(), []byte("datagram"), nil, at, 0))
		if opt == unix.SO_BINDTODEVICE {
			must(t, unix.SetsockoptString(d.Int(), unix.SOL_SOCKET, opt, "lo"))
		} else {
			must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, opt, 1))
		}
		refused(t, &options.Dump{}, d.Int(), name)
	}
}

// Two sockets have a port of the same number, of UDP and of UDP-Lite; one has what
// came before it was connected to somebody else.
func TestLiteBesideUDP(t *testing.T) {
	s := lites(t)
	d, c, peer := s.bound(t, "127.0.0.1"), s.bound(t, "127.0.0.1"), s.bound(t, "127.0.0.1")
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	u := udp4.make(t)
	must(t, unix.Bind(u.Int(), at))
	must(t, unix.Sendmsg(c.Int(), []byte("datagram"), nil, at, 0))
	to, err := unix.Getsockname(peer.Int())
	must(t, err)
	must(t, unix.Connect(d.Int(), to))
	in, err := dumped(t, &options.Dump{}, d.Int(), u.Int())
	must(t, err)
	must(t, errors.Join(d.Close(), u.Close()))
	comes(t, restored(t, in), "datagram")
}

// Hostile images of UDP-Lite.
func TestLiteHostile(t *testing.T) {
	good := queuedImages(t)
	good[of(image.Files)][0].Message.(*fdinfo.FileEntry).Isk.Proto = proto.Uint32(unix.IPPROTO_UDPLITE)
	if _, err := planned(good); err != nil {
		t.Fatal(err)
	}
	s := good[of(extra.Sockets)][0].Message.(*extra.SocketEntry)
	s.FullCoverage = proto.Uint32(4)
	if _, err := planned(good); err == nil {
		t.Error("coverage: no error")
	}
	s.FullCoverage = nil
	d := good[of(extra.Datagrams)][0].Message.(*extra.Datagram)
	d.To = []byte{224, 0, 0, 1}
	if _, err := planned(good); err == nil {
		t.Error("a datagram to a group: no error")
	}
}

// What came to a group of IPv6 that the loopback interface doesn't hear comes
// back.
func TestQueuedGroup(t *testing.T) {
	d := udp6.bound(t, "::")
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	i, err := net.InterfaceByName("lo")
	must(t, err)
	join := unix.IPv6Mreq{Multiaddr: [16]byte{0xff, 0x05, 15: 0x77}, Interface: uint32(i.Index)}
	must(t, unix.SetsockoptIPv6Mreq(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &join))
	sent := datagram{from: netip.IPv6Loopback(), to: netip.AddrFrom16(join.Multiaddr), hops: 1, body: append([]byte{0, 9, 0, 0, 0, udpHeader + 8, 0, 0}, "datagram"...)}
	binary.BigEndian.PutUint16(sent.body[2:], decode(sa).port)
	must(t, sent.packet(unix.IPPROTO_UDP, 6).Send(netip.IPv6Loopback()))
	must(t, arrived(func() (bool, error) {
		n, err := unix.IoctlGetInt(d.Int(), unix.SIOCINQ)
		return n > 0, err
	}))
	must(t, unix.SetsockoptIPv6Mreq(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, &join))
	comes(t, restored(t, queuedAt(t, d)), "datagram")
}

// A datagram of IPv6 has the flow label and the class that it came with.
func TestQueuedLabel(t *testing.T) {
	d := udp6.bound(t, "::1")
	must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IPV6, ipv6Flowinfo, 1))
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	sent := datagram{from: netip.IPv6Loopback(), to: netip.IPv6Loopback(), hops: 1, class: 0x28, label: 0x12345, body: append([]byte{0, 9, 0, 0, 0, udpHeader + 8, 0, 0}, "datagram"...)}
	binary.BigEndian.PutUint16(sent.body[2:], decode(sa).port)
	must(t, sent.packet(unix.IPPROTO_UDP, 6).Send(sent.to))
	must(t, arrived(func() (bool, error) {
		n, err := unix.IoctlGetInt(d.Int(), unix.SIOCINQ)
		return n > 0, err
	}))
	n := restored(t, queuedAt(t, d))[1]
	control := make([]byte, 100)
	_, size, _, _, err := unix.Recvmsg(n, make([]byte, 100), control, unix.MSG_DONTWAIT)
	must(t, err)
	all, err := unix.ParseSocketControlMessage(control[:size])
	must(t, err)
	if len(all) != 1 || all[0].Header.Type != ipv6Flowinfo || binary.BigEndian.Uint32(all[0].Data) != 0x2812345 {
		t.Errorf("it came with %+v", all)
	}
}

// A filter may cut a datagram, whose header tells its length of before.
func TestQueuedCut(t *testing.T) {
	d, c := udp4.bound(t, "127.0.0.1"), udp4.bound(t, "127.0.0.1")
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	cut := []unix.SockFilter{{Code: unix.BPF_RET, K: udpHeader + 3}}
	must(t, unix.SetsockoptSockFprog(d.Int(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &cut[0]}))
	must(t, unix.Sendmsg(c.Int(), []byte("datagram"), nil, at, 0))
	comes(t, restored(t, queuedAt(t, d)), "dat")
}

// given is a control message of size bytes.
func given(level, name, size int) []*extra.SocketOption {
	return []*extra.SocketOption{{Level: proto.Uint32(uint32(level)), Name: proto.Uint32(uint32(name)), Value: make([]byte, size)}}
}

// What isn't sent yet keeps what it was given itself.
func TestUnsentGiven(t *testing.T) {
	testkit.RequireRoot(t)
	insideOf(t, udp4, udp4.make(t).Int()) // or skip
	for _, s := range []sort{udp4, udp6} {
		ip, level, hops, class := "127.0.0.1", unix.IPPROTO_IP, unix.IP_TTL, unix.IP_TOS
		if s.family == unix.AF_INET6 {
			ip, level, hops, class = "::1", unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, unix.IPV6_TCLASS
		}
		d := s.bound(t, ip)
		at, err := unix.Getsockname(d.Int())
		must(t, err)
		number := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
		control := slices.Concat(linux.Cmsg(level, hops, number(44)), linux.Cmsg(level, class, number(0x60)), linux.Cmsg(unix.SOL_SOCKET, unix.SO_MARK, number(9)))
		must(t, unix.Sendmsg(d.Int(), []byte("part"), control, at, unix.MSG_MORE))
		first, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		unsentOf := func(in images) *extra.Unsent {
			return in[of(extra.Sockets)][0].Message.(*extra.SocketEntry).GetUnsent()
		}
		want := unsentOf(first)
		must(t, d.Close())
		for _, n := range restored(t, first) {
			second, err := dumped(t, &options.Dump{}, n)
			must(t, err)
			if got := unsentOf(second); len(got.GetGiven()) < 3 || !proto.Equal(got, want) {
				t.Errorf("%v: got %v, want %v", s, got, want)
			}
		}
	}
}

// What isn't sent yet by a socket that was disconnected, and lost its port by that, goes
// where it was to, and from no port.
func TestUnsentParted(t *testing.T) {
	testkit.RequireRoot(t)
	insideOf(t, udp4, udp4.make(t).Int()) // or skip
	for _, s := range []sort{udp4, udp6} {
		ip := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family]
		to, d := s.bound(t, ip), s.make(t)
		at, err := unix.Getsockname(to.Int())
		must(t, err)
		must(t, unix.Connect(d.Int(), at))
		must(t, unix.Send(d.Int(), []byte("part"), unix.MSG_MORE))
		must(t, linux.Connect(d.Int(), binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC)))
		name, err := unix.Getsockname(d.Int())
		must(t, err)
		first, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		must(t, d.Close())
		for _, n := range restored(t, first) {
			got, err := unix.Getsockname(n)
			must(t, err)
			if !reflect.DeepEqual(got, name) {
				t.Errorf("%v: its name is %v, want %v", s, got, name)
			}
			must(t, unix.Send(n, []byte("s"), 0))
			b := make([]byte, 9)
			k, _, err := unix.Recvfrom(to.Int(), b, 0)
			if err != nil || string(b[:k]) != "parts" {
				t.Errorf("%v: what comes is %q, %v", s, b[:k], err)
			}
		}
	}
}

// What isn't sent yet need not go to whom the socket is connected to.
func TestUnsentBeside(t *testing.T) {
	testkit.RequireRoot(t)
	insideOf(t, udp4, udp4.make(t).Int()) // or skip
	for _, s := range []sort{udp4, udp6} {
		ip := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family]
		to, other, d := s.bound(t, ip), s.bound(t, ip), s.make(t)
		at, err := unix.Getsockname(to.Int())
		must(t, err)
		peer, err := unix.Getsockname(other.Int())
		must(t, err)
		must(t, unix.Connect(d.Int(), peer))
		must(t, unix.Sendmsg(d.Int(), []byte("part"), nil, at, unix.MSG_MORE))
		in, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		must(t, d.Close())
		for _, n := range restored(t, in) {
			must(t, unix.Send(n, []byte("s"), 0))
			b := make([]byte, 9)
			k, _, err := unix.Recvfrom(to.Int(), b, unix.MSG_DONTWAIT)
			if err != nil || string(b[:k]) != "parts" {
				t.Errorf("%v: what comes is %q, %v", s, b[:max(k, 0)], err)
			}
		}
	}
}

func TestQueuedHostile(t *testing.T) {
	good := queuedImages(t)
	if _, err := planned(good); err != nil {
		t.Fatal(err)
	}
	yes := true
	for name, change := range map[string]func(e *extra.Datagram, s *extra.SocketEntry){
		"no address":     func(e *extra.Datagram, _ *extra.SocketEntry) { e.From = nil },
		"two families":   func(e *extra.Datagram, _ *extra.SocketEntry) { e.To = make([]byte, 16) },
		"other family":   func(e *extra.Datagram, _ *extra.SocketEntry) { e.From, e.To = make([]byte, 16), make([]byte, 16) },
		"short":          func(e *extra.Datagram, _ *extra.SocketEntry) { e.Data = e.Data[:7] },
		"longer":         func(e *extra.Datagram, _ *extra.SocketEntry) { e.Data = append(slices.Clone(e.Data), 0) },
		"huge":           func(e *extra.Datagram, _ *extra.SocketEntry) { e.Data = make([]byte, 1<<17) },
		"port":           func(e *extra.Datagram, _ *extra.SocketEntry) { e.Data = append([]byte{0, 0, 0, 1}, e.Data[4:]...) },
		"hops":           func(e *extra.Datagram, _ *extra.SocketEntry) { e.Hops = proto.Uint32(256) },
		"class":          func(e *extra.Datagram, _ *extra.SocketEntry) { e.Class = proto.Uint32(256) },
		"interface":      func(e *extra.Datagram, _ *extra.SocketEntry) { e.Interface = proto.String("lo") },
		"no such socket": func(e *extra.Datagram, _ *extra.SocketEntry) { e.Socket = proto.Uint32(7) },
		"no ICMP error":  func(e *extra.Datagram, _ *extra.SocketEntry) { e.Error, e.Data = &yes, make([]byte, 8) },
		"error":          func(_ *extra.Datagram, s *extra.SocketEntry) { s.Error = proto.Uint32(uint32(unix.EIO)) },
		"unsent to":      func(_ *extra.Datagram, s *extra.SocketEntry) { s.Unsent.To = make([]byte, 5) },
		"unsent nowhere": func(_ *extra.Datagram, s *extra.SocketEntry) { s.Unsent.To = nil },
		"unsent to port": func(_ *extra.Datagram, s *extra.SocketEntry) { s.Unsent.Port = proto.Uint32(1 << 16) },
		"unsent with": func(_ *extra.Datagram, s *extra.SocketEntry) {
			s.Unsent.Given = given(unix.SOL_SOCKET, unix.SO_MARK, 3)
		},
		"unsent with what": func(_ *extra.Datagram, s *extra.SocketEntry) {
			s.Unsent.Given = given(unix.SOL_SOCKET, unix.SCM_RIGHTS, 4)
		},
		"unsent from": func(_ *extra.Datagram, s *extra.SocketEntry) {
			s.Unsent.From = &extra.PacketInfo{Address: make([]byte, 3)}
		},
		"group":           func(_ *extra.Datagram, s *extra.SocketEntry) { s.Groups = group(make([]byte, 4), nil) },
		"group of IPv6":   func(_ *extra.Datagram, s *extra.SocketEntry) { s.Groups = group([]byte{0xff, 15: 1}, nil) },
		"source of group": func(_ *extra.Datagram, s *extra.SocketEntry) { s.Groups = group([]byte{224, 0, 0, 9}, make([]byte, 3)) },
	} {
		in := images{}
		for k, v := range good {
			in[k] = slices.Clone(v)
		}
		e, s := &extra.Datagram{}, &extra.SocketEntry{}
		for _, c := range []struct{ from, to proto.Message }{{good[of(extra.Datagrams)][0].Message, e}, {good[of(extra.Sockets)][0].Message, s}} {
			b, err := proto.Marshal(c.from)
			must(t, err)
			must(t, proto.Unmarshal(b, c.to))
		}
		change(e, s)
		in[of(extra.Datagrams)], in[of(extra.Sockets)] = []plan.Entry{{Message: e}}, []plan.Entry{{Message: s}}
		if _, err := planned(in); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// Datagrams at a listener.
	good[of(image.Files)][0].Message = entry(1)
	if _, err := planned(good); err == nil {
		t.Error("a TCP socket: no error")
	}
}

func group(address, source []byte) []*extra.Membership {
	name := "lo"
	m := &extra.Membership{Group: address, Interface: &name, Local: make([]byte, 4)}
	if source != nil {
		m.Sources = [][]byte{source}
	}
	return []*extra.Membership{m}
}
