package inet

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// A connection between link-local addresses, in states that it is brought to by
// segments as if from its peer.
func TestLinkLocalStates(t *testing.T) {
	testkit.RequireRoot(t)
	here, there := testkit.Here(), testkit.NewNet(t)
	testkit.Veth(t, here, "glis-a", there, "glis-b")
	here.Address(t, "glis-a", "fe80::a/64")
	there.Address(t, "glis-b", "fe80::b/64")
	l, err := there.Listen("tcp6", "[fe80::b%glis-b]:7007")
	must(t, err)
	defer l.Close()
	for _, close := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed=%v", close), func(t *testing.T) {
			c := sort{family: unix.AF_INET6, protocol: unix.IPPROTO_TCP}.make(t)
			must(t, unix.Connect(c.Int(), &unix.SockaddrInet6{Port: 7007, Addr: [16]byte{0xfe, 0x80, 15: 0xb}, ZoneId: uint32(here.Index(t, "glis-a"))}))
			s, err := l.Accept()
			must(t, err)
			defer s.Close()
			if close {
				must(t, s.Close())
			}
			o := &options.Dump{}
			o.TCPEstablished = true
			in, err := dumped(t, o, c.Int())
			must(t, err)
			holdAll(t, in)
			must(t, unix.SetsockoptInt(c.Int(), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1))
			must(t, c.Close())
			restored(t, in)
		})
	}
}
