package inet

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// remoteClient is a client behind a tun interface, whose segments a test sends itself.
type remoteClient struct {
	t        *testing.T
	tun      int
	from, to netip.AddrPort
}

// newRemoteClient makes the interface, with an address, and a client of a port there.
func newRemoteClient(t *testing.T, at netip.Addr) *remoteClient {
	t.Helper()
	n, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		testkit.Lacks(t, "/dev/net/tun", err, unix.ENOENT, unix.ENODEV)
	}
	t.Cleanup(func() { unix.Close(n) })
	r, err := unix.NewIfreq("glis-t")
	must(t, err)
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	must(t, unix.IoctlIfreq(n, unix.TUNSETIFF, r))
	testkit.Here().Up(t, "glis-t")
	testkit.Here().Address(t, "glis-t", at.String()+"/64")
	return &remoteClient{t: t, tun: n, from: netip.AddrPortFrom(at.Next(), 1000)}
}

// send sends a segment.
func (c *remoteClient) send(flags uint8, seq, ack uint32, data string) {
	c.t.Helper()
	be, b := binary.BigEndian, make([]byte, tcpHeader)
	be.PutUint16(b, c.from.Port())
	be.PutUint16(b[2:], c.to.Port())
	be.PutUint32(b[4:], seq)
	be.PutUint32(b[8:], ack)
	b[12], b[13] = tcpHeader/4<<4, flags
	be.PutUint16(b[14:], 1<<15)
	p := &socket.Packet{From: c.from.Addr(), To: c.to.Addr(), Protocol: unix.IPPROTO_TCP, Hops: 64, Body: append(b, data...)}
	p.Sum(16)
	_, err := unix.Write(c.tun, p.Bytes())
	must(c.t, err)
}

// call sends a segment, again and again like any client, until there is an answer: the kernel
// finds a new address a moment after it has it.
func (c *remoteClient) call(flags uint8, seq uint32) (answer uint8, isn uint32) {
	c.t.Helper()
	for range 100 {
		c.send(flags, seq, 0, "")
		if answer, isn, _, ok := c.hear(100); ok {
			return answer, isn
		}
	}
	c.t.Fatal("nobody answers")
	return 0, 0
}

// next returns the next segment that comes.
func (c *remoteClient) next() (flags uint8, seq, ack uint32) {
	c.t.Helper()
	flags, seq, ack, ok := c.hear(10_000)
	if !ok {
		c.t.Fatal("no segment comes")
	}
	return flags, seq, ack
}

// hear waits for a segment of TCP for so many milliseconds.
func (c *remoteClient) hear(wait int) (flags uint8, seq, ack uint32, ok bool) {
	c.t.Helper()
	for b := make([]byte, 1<<16); ; {
		n, err := testkit.PollFds([]unix.PollFd{{Fd: int32(c.tun), Events: unix.POLLIN}}, wait)
		must(c.t, err)
		if n == 0 {
			return 0, 0, 0, false
		}
		n, err = unix.Read(c.tun, b)
		must(c.t, err)
		if h := b[ip6Header:]; n >= ip6Header+tcpHeader && b[6] == unix.IPPROTO_TCP {
			return h[13], binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:]), true
		}
	}
}

// remoteAndListener returns a client that the test plays, and the listener it calls, at an
// address of a namespace of their own.
func remoteAndListener(t *testing.T, ip string) (c *remoteClient, listener *fd.FD) {
	t.Helper()
	testkit.RequireRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	testkit.Here().Up(t, "lo")
	at := netip.MustParseAddr("fd66::1")
	c = newRemoteClient(t, at)
	d := tcp6.bound(t, ip)
	must(t, unix.Listen(d.Int(), 4))
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	c.to = netip.AddrPortFrom(at, decode(sa).port)
	return c, d
}

// A client that has had an answer takes itself for connected. If the last segment of its
// handshake has not come when the listener is saved, it goes on with the restored one, also
// if that answer was lost: it comes again, the same.
func TestHandshakes(t *testing.T) {
	c, d := remoteAndListener(t, "::")
	const syn, first = 2, 1000
	flags, isn := c.call(syn, first)
	if flags != syn|flagAck {
		t.Fatalf("the listener says %#x", flags)
	}
	in := lastLook(t, d.Int())
	if all := in[of(extra.TCPWaiting)]; len(all) != 1 || !all[0].Message.(*extra.WaitingTCP).GetHalf() {
		t.Fatalf("%d clients wait", len(all))
	}
	let := holdAll(t, in)
	must(t, d.Close())
	fds := restored(t, in)
	let()
	nodes, err := planned(in)
	must(t, err)
	for ok := true; ok; { // what came before
		_, _, _, ok = c.hear(0)
	}
	must(t, nodes[0].(*node).greet())
	for range 2 { // one may be lost
		if flags, seq, ack := c.next(); flags != syn|flagAck || seq != isn || ack != first+1 {
			t.Errorf("it hears %#x, %d, %d; want %#x, %d, %d", flags, seq, ack, syn|flagAck, isn, first+1)
		}
	}
	c.send(flagAck, first+1, isn+1, "hi")
	n, _, err := unix.Accept4(fds[1], unix.SOCK_CLOEXEC)
	must(t, err)
	defer unix.Close(n)
	var b [8]byte
	if got, err := unix.Read(n, b[:]); err != nil || string(b[:got]) != "hi" {
		t.Errorf("read %q, %v", b[:max(0, got)], err)
	}
}

// A peer may acknowledge a part of a segment, if it was put together from others when it was
// sent again. What isn't acknowledged comes back, and is sent again.
func TestPartlyAcknowledged(t *testing.T) {
	c, d := remoteAndListener(t, "fd66::1")
	const syn, first = 2, 1000
	_, isn := c.call(syn, first)
	c.send(flagAck, first+1, isn+1, "")
	n, _, err := unix.Accept4(d.Int(), unix.SOCK_CLOEXEC)
	a := own(t, n, err)
	must(t, unix.Sendmsg(n, []byte("acknowledged, and not"), nil, nil, 0))
	const part = uint32(len("acknowledged"))
	c.send(flagAck, first+1, isn+1+part, "")
	for left := 100; left > int(part); { // it is heard at once
		left, err = unix.IoctlGetInt(n, unix.SIOCOUTQ)
		must(t, err)
	}
	o := options.NewDump()
	o.TCPEstablished = true
	in, err := dumped(t, o, n)
	must(t, err)
	nodes, err := planned(in)
	must(t, err)
	if s := nodes[0].(*node).stream; string(s.Queues) != ", and not" || s.Entry.GetOutqLen() != uint32(len(", and not")) {
		t.Errorf("%q is to be acknowledged, %d bytes", s.Queues, s.Entry.GetOutqLen())
	}
	must(t, a.Close())
}

// lastLook dumps a listener of a tree that is to be killed.
func lastLook(t *testing.T, fd int) images {
	t.Helper()
	o := &options.Dump{}
	o.TCPEstablished = true
	out, k := images{}, New()
	env, f := environment(t, o, out, fd)
	env.Hold, env.Shut = func([]netlock.Flow) error { return nil }, func([]netlock.Flow) error { return nil }
	if !k.Match(f) {
		t.Fatal("no match")
	}
	e, err := k.Dump(context.Background(), env, f)
	testkit.KernelMemory(t, err)
	e.Type, e.Id = k.Type().Enum(), &f.ID
	must(t, errors.Join(out.Put(image.Files, e, nil), k.LastLook(env)))
	return out
}
