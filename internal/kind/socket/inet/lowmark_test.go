package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// SO_RCVLOWAT comes back also if it is more than half of the buffer, which was made smaller
// since, or than the machine allows.
func TestLowWaterMark(t *testing.T) {
	testkit.RequireRoot(t)
	for name, x := range map[string]struct{ buffer, mark, then int }{
		"buffer smaller since": {0, 100_000, 10_000},
		"beyond limits":        {60 << 20, 40 << 20, 10_000},
		"a large buffer":       {60 << 20, 40 << 20, 0},
		"small buffer":         {10_000, 1 << 20, 0},
	} {
		set := func(n int) {
			for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, x.buffer}, {unix.SO_RCVLOWAT, x.mark}, {unix.SO_RCVBUFFORCE, x.then}} {
				if o[1] != 0 {
					must(t, unix.SetsockoptInt(n, unix.SOL_SOCKET, o[0], o[1]))
				}
			}
		}
		t.Run(name, func(t *testing.T) {
			for _, s := range []sort{tcp4, tcp6, udp4, {family: unix.AF_INET6, protocol: unix.IPPROTO_MPTCP}} {
				if !possible(t, s) {
					continue
				}
				d := s.bound(t, s.loopback())
				set(d.Int())
				want := optionsOf(t, s, d.Int())
				in, err := dumped(t, options.NewDump(), d.Int())
				must(t, err)
				must(t, d.Close())
				sameOptions(t, s, "unconnected", want, optionsOf(t, s, restored(t, in)[1]))
			}
			p := paired(t, tcp4, "127.0.0.1")
			p.notAlone = true
			set(p.ends[0].Int())
			s := tcp4
			s.connected = true
			want := optionsOf(t, s, p.ends[0].Int())
			p.move(t, 0, 1)
			sameOptions(t, tcp4, "connected", want, optionsOf(t, s, p.ends[0].Int()))
		})
	}
}

// A connection of a listener of Multipath TCP whose client doesn't speak that has a mark of 0,
// which can't be set, and means the same as 1.
func TestLowWaterMarkOfNone(t *testing.T) {
	d := tcp4.bound(t, "127.0.0.1")
	k, err := socket.NewKernel(table(tcp4), d.Int())
	must(t, err)
	values := make([]socket.Value, len(k.Table))
	k.Know(values, "SO_RCVLOWAT", socket.Uint(0))
	must(t, k.Set(d.Int(), values, socket.Early, socket.Last))
	n, err := unix.GetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_RCVLOWAT)
	must(t, err)
	if n != 1 {
		t.Errorf("SO_RCVLOWAT is %d afterwards", n)
	}
}
