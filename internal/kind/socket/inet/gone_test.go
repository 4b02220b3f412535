package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// interfaceGone is a number that no interface has.
const interfaceGone = 1 << 30

func bindGone(t *testing.T, n int) {
	t.Helper()
	must(t, unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, interfaceGone))
}

// Sockets that are bound to an interface which is gone are afterwards, too, but those that
// can't be made without it.
func TestGone(t *testing.T) {
	testkit.RequireRoot(t)
	raw4, raw6 := sort{family: unix.AF_INET, protocol: 253, bare: unix.SOCK_RAW}, sort{family: unix.AF_INET6, protocol: 253, bare: unix.SOCK_RAW}
	for _, s := range []sort{tcp4, tcp6, udp4, udp6, raw4, raw6} {
		for _, bound := range []bool{false, true} {
			if bound && s == raw6 {
				continue
			}
			d := s.make(t)
			if bound {
				d = s.bound(t, s.loopback())
			}
			bindGone(t, d.Int())
			if bound && s.tcpLike() {
				must(t, unix.Listen(d.Int(), 3))
			}
			fds := same(t, s, d)
			if n, err := unix.GetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); n != interfaceGone || err != nil {
				t.Errorf("%v, bound: %v: bound to %d, %v", s, bound, n, err)
			}
		}
	}
	o := options.NewDump()
	o.TCPEstablished = true
	const why = "which is gone"
	p := paired(t, tcp4, "127.0.0.1")
	bindGone(t, p.ends[0].Int())
	refused(t, o, p.ends[0].Int(), why)
	l := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(l.Int(), 3))
	client(t, tcp4, l.Int())
	bindGone(t, l.Int())
	refused(t, o, l.Int(), why)
	to := udp4.bound(t, "127.0.0.1")
	sa, err := unix.Getsockname(to.Int())
	must(t, err)
	from := udp4.make(t)
	must(t, unix.Connect(from.Int(), sa))
	must(t, unix.Sendmsg(from.Int(), []byte("x"), nil, nil, 0))
	bindGone(t, from.Int())
	refused(t, o, from.Int(), why)
	bindGone(t, to.Int())
	refused(t, o, to.Int(), why)
	six := raw6.bound(t, "::1")
	bindGone(t, six.Int())
	refused(t, o, six.Int(), why)
}
