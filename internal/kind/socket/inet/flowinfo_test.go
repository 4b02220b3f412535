package inet

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// flowing connects a socket with a flow label and a class.
func flowing(t *testing.T, n int, to address, info uint32, send int) {
	t.Helper()
	must(t, unix.SetsockoptInt(n, unix.IPPROTO_IPV6, ipv6FlowinfoSend, 1))
	var room [28]byte
	raw := to.raw(&room, unix.AF_INET6, 0)
	binary.BigEndian.PutUint32(raw[4:], info)
	must(t, linux.Connect(n, raw))
	must(t, unix.SetsockoptInt(n, unix.IPPROTO_IPV6, ipv6FlowinfoSend, send))
}

// What connect(2) was told to send along stays, be it told by getpeername(2) or not.
func TestFlowInfo(t *testing.T) {
	_, err := New().memory()
	testkit.KernelMemory(t, err)
	testkit.RequireRoot(t)
	const info = 0x4012345
	look := func(s sort, n int) {
		t.Helper()
		if got := insideOf(t, s, n); got.GetFlowInfo() != info {
			t.Errorf("%v: flow label %#x", s, got.GetFlowInfo())
		}
	}
	for _, send := range []int{0, 1} {
		for _, s := range []sort{udp6, raw6} {
			n, err := s.like()
			must(t, err)
			at := udp6.bound(t, "::1")
			sa, err := unix.Getsockname(at.Int())
			must(t, err)
			flowing(t, n, decode(sa), info, send)
			look(s, n)
			in, err := dumped(t, options.NewDump(), n)
			must(t, err)
			must(t, unix.Close(n))
			got := restored(t, in)[1]
			look(s, got)
			if on, err := unix.GetsockoptInt(got, unix.IPPROTO_IPV6, ipv6FlowinfoSend); err != nil || on != send {
				t.Errorf("%v: IPV6_FLOWINFO_SEND is %d, %v", s, on, err)
			}
			must(t, unix.Close(got))
		}
		l := tcp6.bound(t, "::1")
		must(t, unix.Listen(l.Int(), 1))
		sa, err := unix.Getsockname(l.Int())
		must(t, err)
		c := tcp6.make(t)
		flowing(t, c.Int(), decode(sa), info, send)
		n, _, err := unix.Accept4(l.Int(), unix.SOCK_CLOEXEC)
		a := own(t, n, err)
		must(t, l.Close())
		s := tcp6
		s.connected = true
		p := &pair{sort: s, ends: [2]*fd.FD{c, a}, notAlone: true}
		for range 2 {
			p.send(t, 0, 1000)
			p.move(t, 0, 1)
			look(s, p.ends[0].Int())
			p.drain(t, 1)
		}
	}
}

// Connections that differ in it alone are not taken for alike.
func TestFlowsAreNotAlike(t *testing.T) {
	testkit.RequireRoot(t)
	var fds []int
	at := udp6.bound(t, "::1")
	sa, err := unix.Getsockname(at.Int())
	must(t, err)
	for i := range severalDescriptors {
		n := udp6.make(t).Int()
		flowing(t, n, decode(sa), uint32(i/2%2), 0)
		fds = append(fds, n)
	}
	k := New()
	k.PrepareFor(len(fds), memory(t))
	in, err := dumpedBy(t, k, options.NewDump(), fds...)
	must(t, err)
	labels := 0
	for _, e := range in[of(extra.Sockets)] {
		if e.Message.(*extra.SocketEntry).GetFlowInfo() != 0 {
			labels++
		}
	}
	if labels != len(fds)/2 {
		t.Errorf("%d of %d have their flow label", labels, len(fds))
	}
}
