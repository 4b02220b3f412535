package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// Sockets that shared an address when they were bound, and would not be let
// share it now, come back with it, and with SO_REUSEPORT off.
func TestSharedNoMore(t *testing.T) {
	for _, s := range []sort{tcp4, udp4} {
		var fds []*fd.FD
		var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		for range 3 {
			d := s.make(t)
			must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
			must(t, unix.Bind(d.Int(), sa))
			sa, _ = unix.Getsockname(d.Int())
			if s.tcpLike() {
				must(t, unix.Listen(d.Int(), 5))
			}
			fds = append(fds, d)
		}
		for _, d := range fds {
			must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 0))
		}
		same(t, s, fds...)
	}
}
