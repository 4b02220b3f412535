package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/options"
)

// What counts before a connection is made comes back, but where the kernel would
// wait for its first data.
func TestFastopenConnect(t *testing.T) {
	for _, x := range []struct {
		name         string
		cookie, want int
	}{{"with a cookie to be asked for", 1, 1}, {"without cookies", 0, 0}} {
		t.Run(x.name, func(t *testing.T) {
			l := tcp4.bound(t, "127.0.0.1")
			must(t, unix.Listen(l.Int(), 5))
			sa, err := unix.Getsockname(l.Int())
			must(t, err)
			c := tcp4.make(t)
			must(t, unix.SetsockoptInt(c.Int(), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1))
			const noCookie = 34 // TCP_FASTOPEN_NO_COOKIE
			must(t, unix.SetsockoptInt(c.Int(), unix.IPPROTO_TCP, noCookie, 1-x.cookie))
			must(t, unix.Connect(c.Int(), sa))
			must(t, unix.Sendmsg(c.Int(), []byte("first"), nil, nil, 0))
			o := &options.Dump{}
			o.TCPEstablished = true
			in, err := dumped(t, o, c.Int())
			must(t, err)
			holdAll(t, in)
			must(t, tcp.Repair().Set(c.Int()))
			must(t, c.Close())
			fds := restored(t, in)
			for opt, want := range map[int]int{unix.TCP_FASTOPEN_CONNECT: x.want, noCookie: 1 - x.cookie} {
				if got, err := unix.GetsockoptInt(fds[1], unix.IPPROTO_TCP, opt); err != nil || got != want {
					t.Errorf("option %d is %d, %v, want %d", opt, got, err, want)
				}
			}
			if info, err := tcp.Look(fds[1]); err != nil || info.State != tcp.Established {
				t.Errorf("state %d, %v", info.State, err)
			}
		})
	}
}
