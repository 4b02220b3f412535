package inet

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/options"
)

// Sockets that shared an address when they were bound, and would not be let
// share it now, come back with it, and with the option off that let them.
func TestSharedNoMore(t *testing.T) {
	tests := []struct {
		name    string
		sort    sort
		option  int
		listens bool
		off     int // how many of them have it off since
	}{
		{"listeners", tcp4, unix.SO_REUSEPORT, true, 3},
		{"some listeners", tcp4, unix.SO_REUSEPORT, true, 1},
		{"TCP, port", tcp4, unix.SO_REUSEPORT, false, 3},
		{"TCP, address", tcp4, unix.SO_REUSEADDR, false, 3},
		{"TCP, some", tcp4, unix.SO_REUSEADDR, false, 1},
		{"TCP, some ports", tcp4, unix.SO_REUSEPORT, false, 2},
		{"IPv6", tcp6, unix.SO_REUSEADDR, false, 3},
		{"UDP, port", udp4, unix.SO_REUSEPORT, false, 3},
		{"UDP, address", udp4, unix.SO_REUSEADDR, false, 3},
		{"UDP, some", udp4, unix.SO_REUSEPORT, false, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var fds []*fd.FD
			var sa unix.Sockaddr
			for range 3 {
				d := tt.sort.make(t)
				must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, tt.option, 1))
				if sa == nil {
					sa = loopback(tt.sort)
				}
				must(t, unix.Bind(d.Int(), sa))
				sa, _ = unix.Getsockname(d.Int())
				if tt.listens {
					must(t, unix.Listen(d.Int(), 5))
				}
				fds = append(fds, d)
			}
			for _, d := range fds[:tt.off] {
				must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, tt.option, 0))
			}
			same(t, tt.sort, fds...)
		})
	}
}

func loopback(s sort) unix.Sockaddr {
	if s.family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
}

// What is all addresses' of IPv6 is all addresses' of IPv4, too.
func TestSharedByFamilies(t *testing.T) {
	for _, s := range []sort{tcp4, udp4} {
		both := sort{family: unix.AF_INET6, protocol: s.protocol}.make(t)
		one := s.make(t)
		for _, d := range []*fd.FD{both, one} {
			must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		}
		must(t, unix.Bind(both.Int(), &unix.SockaddrInet6{}))
		sa, err := unix.Getsockname(both.Int())
		must(t, err)
		must(t, unix.Bind(one.Int(), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: sa.(*unix.SockaddrInet6).Port}))
		for _, d := range []*fd.FD{both, one} {
			must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0))
		}
		in, err := dumped(t, &options.Dump{}, both.Int(), one.Int())
		must(t, err)
		must(t, errors.Join(both.Close(), one.Close()))
		for id, d := range restored(t, in) {
			v, err := unix.GetsockoptInt(d, unix.SOL_SOCKET, unix.SO_REUSEADDR)
			must(t, err)
			if v != 0 {
				t.Errorf("%v: socket %d has SO_REUSEADDR on", s, id)
			}
		}
	}
}
