package inet

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// aloneInNet has the test in a network namespace of its own: once a label is for some only,
// every other one of a namespace has to be leased, too.
func aloneInNet(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	_, err := New().memory()
	testkit.KernelMemory(t, err)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	testkit.Here().Up(t, "lo")
}

func lease(t *testing.T, n int, l *extra.FlowLabel) {
	t.Helper()
	must(t, unix.SetsockoptString(n, unix.IPPROTO_IPV6, ipv6FlowlabelMgr, string(leaseOf(l))))
}

func label(n, share, linger, expires uint32, headers ...*extra.SocketOption) *extra.FlowLabel {
	at := netip.IPv6Loopback().As16()
	return &extra.FlowLabel{Label: &n, Share: &share, Peer: at[:], Linger: &linger, Expires: &expires, Headers: headers}
}

// leases is what the kernel tells of all labels, but when they end.
func leases(t *testing.T) []proc.FlowLabel {
	t.Helper()
	all, err := proc.FlowLabels()
	must(t, err)
	for i := range all {
		all[i].Expires = 0
	}
	return all
}

// Labels come back on sockets of every sort, with what goes with them, and packets with
// them go.
func TestLabels(t *testing.T) {
	aloneInNet(t)
	pings(t)
	hop := &extra.SocketOption{Level: proto.Uint32(unix.IPPROTO_IPV6), Name: proto.Uint32(unix.IPV6_HOPOPTS), Value: []byte{17, 0, 1, 4, 0, 0, 0, 0}}
	for i, s := range []sort{
		tcp6, udp6, {family: unix.AF_INET6, protocol: unix.IPPROTO_UDPLITE}, {family: unix.AF_INET6, protocol: 253, bare: unix.SOCK_RAW},
		{family: unix.AF_INET6, protocol: unix.IPPROTO_ICMPV6, bare: unix.SOCK_DGRAM},
	} {
		if !possible(t, s) {
			continue
		}
		first := uint32(0x100 * (i + 1))
		n, err := s.like()
		must(t, err)
		lease(t, n, label(first, shareAny, 8, 50))
		lease(t, n, label(first, shareAny, 8, 50))
		lease(t, n, label(first+1, shareUser, 70, 900, hop))
		if !s.tcpLike() {
			at := udp6.bound(t, "::1")
			sa, err := unix.Getsockname(at.Int())
			must(t, err)
			flowing(t, n, decode(sa), first+1, 1)
		}
		want, all := insideOf(t, s, n), leases(t)
		if len(want.GetLabels()) != 3 || len(want.GetLabels()[0].GetHeaders()) != 1 {
			t.Fatalf("%v: found %v", s, want)
		}
		in, err := dumped(t, options.NewDump(), n)
		must(t, err)
		must(t, unix.Close(n))
		again := restored(t, in)[1]
		if got := insideOf(t, s, again); !proto.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", s, got, want)
		}
		for deadline := time.Now().Add(testkit.Patience); ; {
			diff := cmp.Diff(all, leases(t), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
			if diff == "" {
				break
			}
			if time.Now().After(deadline) { // the kernel puts some sockets away later
				t.Fatalf("%v: leases: %s", s, diff)
			}
		}
	}
}

// A label that is for one socket alone is waited for while nobody has it, and refused
// while somebody does.
func TestLabelOfOne(t *testing.T) {
	aloneInNet(t)
	d := udp6.make(t)
	lease(t, d.Int(), label(0x200, shareNone, 0, 0))
	want := insideOf(t, udp6, d.Int())
	in, err := dumped(t, options.NewDump(), d.Int())
	must(t, err)
	nodes, err := planned(in)
	must(t, err)
	env := &plan.CheckEnv{Log: slog.New(slog.DiscardHandler)}
	if err := nodes[0].(plan.Checked).Check(env); err == nil || !strings.Contains(err.Error(), "another program has flow label 0x200") {
		t.Errorf("another socket has it: %v", err)
	}
	must(t, d.Close())
	must(t, nodes[0].(plan.Checked).Check(env))
	if got := insideOf(t, udp6, restored(t, in)[1]); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// One that is kept for 100 seconds more is not waited for.
	u, err := New().planUnseen(udp6, &extra.SocketEntry{Labels: []*extra.FlowLabel{label(0x201, shareNone, 100, 0)}})
	must(t, err)
	e := udp6.make(t)
	lease(t, e.Int(), u.entry.GetLabels()[0])
	must(t, e.Close())
	for err = u.awaitLabels(env); err != nil && strings.Contains(err.Error(), "another program"); {
		err = u.awaitLabels(env) // the kernel has yet to put the socket away
	}
	if err == nil || !strings.Contains(err.Error(), "try again then") {
		t.Errorf("it is kept for longer than a minute: %v", err)
	}
}

// A listener and a connection that answer with the labels of their peers do so afterwards.
func TestReflects(t *testing.T) {
	aloneInNet(t)
	must(t, os.WriteFile("/proc/sys/net/ipv6/flowlabel_consistency", []byte("0"), 0))
	reflect := func(n int) {
		must(t, unix.SetsockoptString(n, unix.IPPROTO_IPV6, ipv6FlowlabelMgr, string(flowRequest{flags: flReflect}.bytes())))
	}
	reflects := func(what string, n int) {
		t.Helper()
		e := &extra.SocketEntry{}
		must(t, tcp6.readReflects(n, e))
		if !e.GetReflects() {
			t.Errorf("%s doesn't", what)
		}
	}
	d := tcp6.bound(t, "::1")
	must(t, unix.Listen(d.Int(), 1))
	reflect(d.Int())
	in, err := dumped(t, options.NewDump(), d.Int())
	must(t, err)
	must(t, d.Close())
	l := restored(t, in)[1]
	reflects("a listener", l)
	c := client(t, tcp6, l)
	n, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	a := own(t, n, err)
	s := tcp6
	s.connected = true
	p := &pair{sort: s, ends: [2]*fd.FD{c, a}, notAlone: true}
	p.send(t, 0, 1000)
	p.move(t, 1)
	reflects("a connection", p.ends[1].Int())
	p.drain(t, 1)
}

// Clients that wait are answered afterwards, too, with the labels that they came with, which
// are told (IPV6_FL_F_REMOTE), also if the listener doesn't answer so; and with them comes
// the class.
func TestReflectsWaiting(t *testing.T) {
	aloneInNet(t)
	must(t, os.WriteFile("/proc/sys/net/ipv6/flowlabel_consistency", []byte("0"), 0))
	if _, err := lonely(); errors.Is(err, kmem.ErrUnavailable) {
		testkit.KernelMemory(t, err)
	}
	for _, reflects := range []bool{false, true} {
		clients := []uint32{0x12345, 0, 0x2054321}
		want := labelsTold(t, labelled(t, reflects, clients), len(clients))
		if want[0][0] != 0x12345 || reflects != (want[0][1] == 0x12345) {
			t.Fatalf("natively: %x", want)
		}
		d := labelled(t, reflects, clients)
		o := options.NewDump()
		o.TCPEstablished = true
		in, err := dumped(t, o, d.Int())
		must(t, err)
		let := holdAll(t, in)
		must(t, d.Close())
		l := restored(t, in)[1]
		let()
		if got := labelsTold(t, fd.New(l), len(clients)); !reflect.DeepEqual(got, want) {
			t.Errorf("reflects %v: got %x, want %x", reflects, got, want)
		}
	}
}

// A listener that answers with labels only since its clients came, or waits for what they
// have to say first, is refused.
func TestReflectsRefused(t *testing.T) {
	aloneInNet(t)
	must(t, os.WriteFile("/proc/sys/net/ipv6/flowlabel_consistency", []byte("0"), 0))
	o := options.NewDump()
	o.TCPEstablished = true
	late := labelled(t, false, []uint32{0x12345})
	must(t, linux.Setsockopt(late.Int(), unix.IPPROTO_IPV6, ipv6FlowlabelMgr, flowRequest{flags: flReflect}.bytes()))
	refused(t, o, late.Int(), "only since it came")
	d := labelled(t, true, nil)
	must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30))
	client(t, tcp6, d.Int())
	refused(t, o, d.Int(), "TCP_DEFER_ACCEPT")
}

// labelled is a listener at which clients wait that send with certain labels and classes.
func labelled(t *testing.T, reflects bool, clients []uint32) *fd.FD {
	t.Helper()
	d := tcp6.bound(t, "::1")
	must(t, unix.Listen(d.Int(), len(clients)))
	if reflects {
		must(t, linux.Setsockopt(d.Int(), unix.IPPROTO_IPV6, ipv6FlowlabelMgr, flowRequest{flags: flReflect}.bytes()))
	}
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	for i, flow := range clients {
		c := labelledClient(t, sa, flow)
		if i == 0 {
			must(t, unix.Sendmsg(c.Int(), []byte("hello"), nil, nil, 0))
		}
	}
	return d
}

// labelledClient connects with a label and a class.
func labelledClient(t *testing.T, to unix.Sockaddr, flow uint32) *fd.FD {
	t.Helper()
	d := tcp6.make(t)
	c := d.Int()
	must(t, unix.SetsockoptInt(c, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(flow>>20)))
	must(t, unix.SetsockoptInt(c, unix.IPPROTO_IPV6, unix.IPV6_AUTOFLOWLABEL, 0))
	u := &unseen{sort: tcp6, entry: &extra.SocketEntry{FlowInfo: &flow}}
	must(t, u.connectFlow(c, decode(to), 0))
	return d
}

// labelsTold accepts what waits at a listener, and returns which labels it tells: what came,
// what it answers with, and the class that came.
func labelsTold(t *testing.T, d *fd.FD, clients int) (all [][3]uint32) {
	t.Helper()
	for range clients {
		n, _, err := unix.Accept4(d.Int(), unix.SOCK_CLOEXEC)
		all = append(all, labelTold(t, own(t, n, err).Int()))
	}
	return all
}

// labelTold is labelsTold of one connection.
func labelTold(t *testing.T, a int) (told [3]uint32) {
	t.Helper()
	const remote = 8 // IPV6_FL_F_REMOTE
	for i, flags := range []uint16{remote, 0} {
		request := flowRequest{flags: flags}.bytes()
		if _, err := linux.Getsockopt(a, unix.IPPROTO_IPV6, ipv6FlowlabelMgr, request); err != unix.ENOENT {
			must(t, err)
		}
		told[i] = binary.BigEndian.Uint32(request[16:])
	}
	was, err := unix.GetsockoptInt(a, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS)
	must(t, err)
	must(t, unix.SetsockoptInt(a, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1))
	for _, m := range pktOptions(t, a) {
		if m.Header.Type == unix.IPV6_TCLASS {
			told[2] = binary.NativeEndian.Uint32(m.Data)
		}
	}
	must(t, unix.SetsockoptInt(a, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, was))
	return told
}

// pktOptions is what IPV6_2292PKTOPTIONS tells of a connection.
func pktOptions(t *testing.T, n int) []unix.SocketControlMessage {
	t.Helper()
	control := make([]byte, 200)
	size, err := linux.Getsockopt(n, unix.IPPROTO_IPV6, 6 /* IPV6_2292PKTOPTIONS */, control)
	must(t, err)
	messages, err := unix.ParseSocketControlMessage(control[:size])
	must(t, err)
	return messages
}

func TestLabelNonsense(t *testing.T) {
	owned := label(1, shareUser, 6, 0)
	owned.Owner = proto.Uint32(0)
	header := func(name uint32, size int) *extra.FlowLabel {
		return label(1, shareAny, 6, 0, &extra.SocketOption{Level: proto.Uint32(unix.IPPROTO_IPV6), Name: &name, Value: make([]byte, size)})
	}
	for _, l := range []*extra.FlowLabel{owned, header(unix.IPV6_RTHDR, 16)} {
		if err := udp6.checkLabels(&extra.SocketEntry{Labels: []*extra.FlowLabel{l}}); err != nil {
			t.Error(err)
		}
	}
	short := label(1, shareAny, 6, 0)
	short.Peer = short.Peer[:4]
	nobody := label(1, shareProcess, 6, 0)
	nobody.Owner = proto.Uint32(0)
	for _, l := range []*extra.FlowLabel{
		label(0, shareAny, 6, 0), label(mostLabel+1, shareAny, 6, 0), label(1, 4, 6, 0), label(1, shareUser, 6, 0), nobody, short,
		label(1, shareAny, 1<<16, 0), label(1, shareAny, 6, 1<<16), header(unix.IPV6_DSTOPTS, 8), header(unix.IPV6_RTHDR, 7), header(unix.IPV6_RTHDR, 0),
	} {
		if _, err := New().planUnseen(udp6, &extra.SocketEntry{Labels: []*extra.FlowLabel{l}}); err == nil {
			t.Errorf("%v is taken", l)
		}
	}
	for s, e := range map[sort]*extra.SocketEntry{udp4: {Labels: []*extra.FlowLabel{owned}}, udp6: {Reflects: proto.Bool(true)}, tcp4: {Reflects: proto.Bool(true)}} {
		if _, err := New().planUnseen(s, e); err == nil {
			t.Errorf("%v: %v is taken", s, e)
		}
	}
}
