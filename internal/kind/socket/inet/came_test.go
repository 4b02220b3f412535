package inet

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// What a connection knows of what came from its peer it knows afterwards, in every state, and
// whatever it asks for by then.
func TestCame(t *testing.T) {
	testkit.RequireRoot(t)
	_, err := New().memory()
	testkit.KernelMemory(t, err)
	option := func(end, opt, v int) func(*pair) {
		return func(p *pair) { p.set(t, end, unix.IPPROTO_IPV6, opt, v) }
	}
	send := func(from int) func(*pair) { return func(p *pair) { p.send(t, from, 100) } }
	for name, steps := range map[string][]func(*pair){
		"idle":               nil,
		"class asked for":    {option(0, unix.IPV6_RECVTCLASS, 1), send(1), option(1, unix.IPV6_RECVTCLASS, 1), send(0)},
		"label asked for":    {option(0, ipv6Flowinfo, 1), option(0, unix.IPV6_RECVHOPLIMIT, 1), option(0, unix.IPV6_RECVPKTINFO, 1), send(1)},
		"asked for since":    {option(1, unix.IPV6_RECVTCLASS, 1), option(1, unix.IPV6_RECVHOPLIMIT, 1), option(1, unix.IPV6_2292PKTINFO, 1)},
		"hops":               {option(0, unix.IPV6_UNICAST_HOPS, 7), option(1, unix.IPV6_RECVHOPLIMIT, 1), send(0)},
		"more hops required": {option(1, unix.IPV6_MINHOPCOUNT, 200)},
		"queues":             {send(0), send(1)},
		"closed":             {option(1, unix.IPV6_RECVTCLASS, 1), option(1, unix.IPV6_RECVHOPLIMIT, 1), send(0), func(p *pair) { must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR)); p.await(t, 0, 5) }},
		"urgent": {option(1, unix.IPV6_RECVHOPLIMIT, 1), send(0), func(p *pair) {
			must(t, unix.Sendto(p.ends[0].Int(), []byte("!"), unix.MSG_OOB, nil))
			p.sent[0] = append(p.sent[0], '!')
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := tcp6.bound(t, "::1")
			must(t, unix.Listen(l.Int(), 1))
			sa, err := unix.Getsockname(l.Int())
			must(t, err)
			c := labelledClient(t, sa, 0x2854321)
			n, _, err := unix.Accept4(l.Int(), unix.SOCK_CLOEXEC)
			a := own(t, n, err)
			must(t, l.Close())
			s := tcp6
			s.connected = true
			p := &pair{sort: s, ends: [2]*fd.FD{c, a}, notAlone: true}
			for _, step := range steps {
				step(p)
			}
			tells := func() (all [2][]unix.SocketControlMessage, labels [2][3]uint32) {
				for i, d := range p.ends {
					all[i], labels[i] = pktOptions(t, d.Int()), labelTold(t, d.Int())
				}
				return all, labels
			}
			messages, labels := tells()
			if labels[1][0] != 0x54321 || labels[1][2] != 0x28 {
				t.Fatalf("natively: %x", labels)
			}
			p.move(t, 0, 1)
			again, told := tells()
			if diff := cmp.Diff(messages, again); diff != "" || told != labels {
				t.Errorf("told %x, want %x; IPV6_2292PKTOPTIONS: %s", told, labels, diff)
			}
		})
	}
}

// What a client that waits has come with is told when it is accepted.
func TestCameWaiting(t *testing.T) {
	testkit.RequireRoot(t)
	if _, err := lonely(); errors.Is(err, kmem.ErrUnavailable) {
		testkit.KernelMemory(t, err)
	}
	for _, tt := range []struct {
		sort sort
		ip   string
	}{{tcp4, "127.0.0.1"}, {tcp6, "::1"}, {tcp6, "::ffff:127.0.0.1"}} {
		accepted := func(l int) (told []any) {
			n, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
			a := own(t, n, err).Int()
			for _, o := range [][2]int{{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL}, {unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS}} {
				v, _ := unix.GetsockoptInt(a, o[0], o[1])
				told = append(told, v)
			}
			room := make([]byte, 200)
			size, err := linux.Getsockopt(a, unix.IPPROTO_IP, unix.IP_PKTOPTIONS, room)
			if tt.sort == tcp4 {
				must(t, err)
			}
			return append(told, string(room[:size]))
		}
		want, l := accepted(cameFrom(t, tt.sort, tt.ip).Int()), cameFrom(t, tt.sort, tt.ip)
		if hops := map[bool]int{false: 33, true: 34}[tt.ip == "::1"]; !slices.Contains(want, any(hops)) {
			t.Fatalf("natively: %q", want)
		}
		o := options.NewDump()
		o.TCPEstablished = true
		in, err := dumped(t, o, l.Int())
		must(t, err)
		let := holdAll(t, in)
		must(t, l.Close())
		again := restored(t, in)[1]
		let()
		if got := accepted(again); !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %q, want %q", tt.ip, got, want)
		}
	}
}

// cameFrom is a listener at which a client waits that sends with hop limits of its own.
func cameFrom(t *testing.T, s sort, ip string) *fd.FD {
	t.Helper()
	l := s.bound(t, ip)
	must(t, unix.Listen(l.Int(), 1))
	must(t, unix.SetsockoptInt(l.Int(), unix.IPPROTO_IP, unix.IP_RECVTTL, 1))
	must(t, unix.SetsockoptInt(l.Int(), unix.IPPROTO_IP, unix.IP_RECVTOS, 1))
	sa, err := unix.Getsockname(l.Int())
	must(t, err)
	c := s.make(t).Int()
	for _, o := range []linux.SockOpt{{Level: unix.IPPROTO_IP, Name: unix.IP_TTL, Value: 33}, {Level: unix.IPPROTO_IP, Name: unix.IP_TOS, Value: 0x28}} {
		must(t, o.Set(c))
	}
	if s == tcp6 {
		must(t, unix.SetsockoptInt(c, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 34))
	}
	must(t, unix.Connect(c, sa))
	return l
}
