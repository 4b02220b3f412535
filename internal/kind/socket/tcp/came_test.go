package tcp

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/testkit"
)

func TestParseCame(t *testing.T) {
	n := proto.Uint32
	for _, e := range []*extra.Came{
		{}, {Hops: n(0)}, {Hops: n(freshHops)}, {Hops: n(256)}, {Hops: n(64), FlowInfo: n(mostFlow + 1)},
	} {
		if c, err := ParseCame(e); err == nil {
			t.Errorf("%v: got %v", e, c)
		}
	}
	for _, want := range []Came{{}, {Flow: mostFlow, Hops: 255, By: true}, {Hops: 64}, {Flow: 1, Hops: freshHops}} {
		if got, err := ParseCame(want.Entry()); err != nil || got != want {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}

// Where no segment gets to a connection as if from its peer, as behind a firewall, that is
// told, and what was set for it can be taken back.
func TestUnheard(t *testing.T) {
	testkit.RequireRoot(t)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s := &Stream{State: Established, Entry: &tcp_stream.TcpStreamEntry{}, Came: Came{Hops: 64, By: true}}
	at := netip.AddrPortFrom(netip.IPv6Loopback(), 1) // nobody is there
	back, err := s.HearCame(fd, Path{Local: at, Remote: at}, func(string) int { return 0 })
	if !errors.Is(err, ErrUnheard) || back == nil {
		t.Fatalf("it is heard: %v", err)
	}
	if err := back(); err != nil {
		t.Fatal(err)
	}
	if v, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO); v != 0 || err != nil {
		t.Errorf("IPV6_RECVPKTINFO is %d, %v", v, err)
	}
}
