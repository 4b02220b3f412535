package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// Sockets that share a port are in the order that they were in, whatever that of
// their descriptors is.
func TestSharingOrder(t *testing.T) {
	testkit.RequireRoot(t)
	var fds [3]int
	port := 0
	for _, i := range []int{2, 0, 1} {
		d := udp4.make(t)
		must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		must(t, unix.Bind(d.Int(), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}))
		sa, err := unix.Getsockname(d.Int())
		must(t, err)
		port, fds[i] = sa.(*unix.SockaddrInet4).Port, d.Int()
	}
	images, err := dumped(t, options.NewDump(), fds[:]...)
	must(t, err)
	nodes, err := planned(images)
	must(t, err)
	for i, n := range nodes {
		if got := n.(*node).sharing; got == nil || int(got.GetIndex()) != i {
			t.Errorf("file %#x is made as number %d, and has place %v", n.ID(), i, got)
		}
	}
}

// locked makes a listener that may share its port, to which nothing more can be attached, with
// a program of who gets a connection or without.
func locked(t *testing.T, chooser bool) *fd.FD {
	t.Helper()
	d := tcp4.make(t)
	must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	must(t, unix.Bind(d.Int(), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(d.Int(), 5))
	prog := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	if chooser {
		must(t, unix.SetsockoptSockFprog(d.Int(), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &prog[0]}))
	}
	must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1))
	return d
}

// A listener to which nothing more can be attached (SO_LOCK_FILTER) is like that when its
// program is, and the one that has clients wait where they do.
func TestLockedSharing(t *testing.T) {
	testkit.RequireRoot(t)
	same(t, tcp4, locked(t, true))
}

func TestSharingNonsense(t *testing.T) {
	number := proto.Uint32
	classic := &extra.SocketProgram{Classic: []uint64{6 << 48}}
	n := &node{sort: udp4}
	if err := n.planSharing(&extra.SocketEntry{ReusePort: &extra.ReusePort{Group: number(1), Index: number(0)}}); err == nil {
		t.Error("a socket without a port has a place at one")
	}
	n.at = address{ip: loopbackOf(address{}.ip), port: 7}
	if err := n.planSharing(&extra.SocketEntry{ReusePort: &extra.ReusePort{Group: number(1), Index: number(1), Program: classic}}); err == nil {
		t.Error("a program of the second is taken")
	}
	k := New()
	for range 2 {
		k.nodes = append(k.nodes, &node{sort: udp4, kind: k, at: n.at, sharing: &extra.ReusePort{Group: number(1), Index: number(0)}})
	}
	if k.order() == nil {
		t.Error("two sockets have one place")
	}
}
