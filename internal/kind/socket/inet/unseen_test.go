package inet

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// insideOf reads what options don't tell of a socket.
func insideOf(t *testing.T, s sort, n int) *extra.SocketEntry {
	t.Helper()
	k := New()
	defer k.Close()
	m, err := k.memory()
	testkit.KernelMemory(t, err)
	e := &extra.SocketEntry{}
	must(t, s.readUnseen(m, n, e))
	return e
}

// What only the kernel's memory shows comes back.
func TestUnseen(t *testing.T) {
	testkit.RequireRoot(t)
	const budget = 70 // SO_BUSY_POLL_BUDGET
	for _, s := range []sort{tcp4, tcp6, udp4, udp6} {
		d := s.make(t)
		must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, budget, 13))
		multicast := ""
		if !s.tcpLike() {
			multicast = "lo"
			must(t, unix.SetsockoptIPMreqn(d.Int(), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: 1}))
		}
		size := uint32(0)
		if s.family == unix.AF_INET6 {
			size = 1400
			must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_MTU, int(size)))
		}
		want := insideOf(t, s, d.Int())
		if want.GetPacketSize() != size || want.GetBusyPollBudget() != 13 || want.GetMulticastInterface() != multicast {
			t.Errorf("%v: found %v", s, want)
		}
		images, err := dumped(t, options.NewDump(), d.Int())
		must(t, err)
		for _, n := range restored(t, images) {
			if got := insideOf(t, s, n); !proto.Equal(got, want) {
				t.Errorf("%v: got %v, want %v", s, got, want)
			}
		}
	}
}

// A size of segments that was asked for counts for the next connection.
func TestMaxSegment(t *testing.T) {
	testkit.RequireRoot(t)
	s := tcp4
	s.connected = true
	n, err := s.sample()
	must(t, err)
	d := own(t, n, nil)
	must(t, linux.SockOpt{Level: unix.IPPROTO_TCP, Name: unix.TCP_MAXSEG, Value: 1234}.Set(n))
	want := insideOf(t, s, n)
	if want.GetMaxSegment() != 1234 {
		t.Errorf("found %v", want)
	}
	u, err := New().planUnseen(s, want)
	must(t, err)
	again, err := s.sample()
	must(t, err)
	e := own(t, again, nil)
	must(t, u.finish(again))
	if got := insideOf(t, s, again); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	d.Close()
	e.Close()
}

// The size that an option tells where nobody has set one can have been set, too.
func TestFreshSegment(t *testing.T) {
	testkit.RequireRoot(t)
	for _, s := range []sort{tcp4, tcp6} {
		for _, listens := range []bool{false, true} {
			for _, set := range []uint32{0, freshSegment} {
				d := s.make(t)
				if listens {
					d = listenerOf(t, s)
				}
				must(t, linux.SockOpt{Level: unix.IPPROTO_TCP, Name: unix.TCP_MAXSEG, Value: int(set)}.Set(d.Int()))
				if got := insideOf(t, s, d.Int()).GetMaxSegment(); got != set {
					t.Errorf("%v: found %d", s, got)
				}
				o := options.NewDump()
				images, err := dumped(t, o, d.Int())
				must(t, errors.Join(err, d.Close()))
				for _, n := range restored(t, images) {
					if got := insideOf(t, s, n).GetMaxSegment(); got != set {
						t.Errorf("%v, listens %v: TCP_MAXSEG is set to %d, was to %d", s, listens, got, set)
					}
				}
			}
		}
	}
}

func TestUnseenNonsense(t *testing.T) {
	number := proto.Uint32
	for _, e := range []*extra.SocketEntry{
		{BusyPollBudget: number(1 << 16)},
		{MaxSegment: number(1 << 16)},
		{PacketSize: number(1279)},
		{FlowInfo: number(1 << 28)},
		{PacketInfo: &extra.PacketInfo{Address: []byte{1, 2, 3, 4}}},
		{Policies: [][]byte{{1}}},
		{Policies: [][]byte{make([]byte, 168), make([]byte, 168), make([]byte, 168)}},
		{Policies: [][]byte{make([]byte, 169)}},
		{Policies: [][]byte{make([]byte, 168+7*64)}},
		{Long: []*extra.SocketOption{{Level: number(unix.IPPROTO_IP), Name: number(unix.IP_OPTIONS), Value: make([]byte, 41)}}},
		{Long: []*extra.SocketOption{{Level: number(unix.IPPROTO_IP), Name: number(unix.IP_TTL), Value: make([]byte, 4)}}},
	} {
		if _, err := New().planUnseen(udp6, e); err == nil {
			t.Errorf("%v is taken", e)
		}
	}
	if _, err := New().planUnseen(udp4, &extra.SocketEntry{PacketInfo: &extra.PacketInfo{Address: make([]byte, 16)}}); err == nil {
		t.Error("IPV6_PKTINFO of IPv4 is taken")
	}
	if _, err := New().planUnseen(udp4, &extra.SocketEntry{PacketSize: number(1400)}); err == nil {
		t.Error("IPV6_MTU of IPv4 is taken")
	}
}

// A TCP socket that was shut down for sending only, before it ever was
// connected, looks like any other.
func TestShutForSending(t *testing.T) {
	testkit.RequireRoot(t)
	insideOf(t, tcp4, tcp4.make(t).Int()) // or skip
	shutdownOf := func(n int) uint8 {
		k := New()
		defer k.Close()
		m, err := k.memory()
		must(t, err)
		s, err := tcp4.lookInside(m, n, &extra.SocketEntry{})
		must(t, err)
		return s.U8("sock.sk_shutdown")
	}
	d := tcp4.make(t)
	if err := unix.Shutdown(d.Int(), unix.SHUT_WR); !errors.Is(err, unix.ENOTCONN) {
		t.Fatal(err)
	}
	want := shutdownOf(d.Int())
	images, err := dumped(t, options.NewDump(), d.Int())
	must(t, err)
	for _, n := range restored(t, images) {
		if got := shutdownOf(n); want == 0 || got != want {
			t.Errorf("shut down as %d, want %d", got, want)
		}
	}
}
