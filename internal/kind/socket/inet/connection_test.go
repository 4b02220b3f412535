package inet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

var _ interface {
	kind.Locker
	kind.Planner
} = (*Kind)(nil)

var _ interface {
	plan.Locked
	plan.Resumer
	plan.Checked
} = (*node)(nil)

// pair is both ends of a connection, and what each has sent and received.
type pair struct {
	sort sort
	ends [2]*fd.FD
	sent [2][]byte
	got  [2][]byte
	// A dump refuses such a connection if it is only in a message, see docs/limits.md.
	notAlone bool
}

func paired(t testing.TB, s sort, ip string) *pair {
	t.Helper()
	l := s.bound(t, ip)
	must(t, unix.Listen(l.Int(), 1))
	c := client(t, s, l.Int())
	n, _, err := unix.Accept4(l.Int(), unix.SOCK_CLOEXEC)
	a := own(t, n, err)
	must(t, l.Close())
	s.connected = true
	return &pair{sort: s, ends: [2]*fd.FD{c, a}}
}

// A socket that is about to connect goes on with that: the same segment is sent
// again, so that a listener which has heard it already isn't confused.
func TestConnecting(t *testing.T) {
	for _, s := range []sort{tcp4, tcp6} {
		ip := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family]
		l, c := s.bound(t, ip), s.bound(t, ip)
		must(t, unix.Listen(l.Int(), 1))
		to, err := unix.Getsockname(l.Int())
		must(t, err)
		from, err := unix.Getsockname(c.Int())
		must(t, err)
		lock, err := netlock.Open()
		must(t, err)
		defer lock.Close()
		if err := lock.Hold("glis-test-connecting", []netlock.Flow{{Protocol: unix.IPPROTO_TCP, Local: decode(from).addrPort(), Remote: decode(to).addrPort()}}); err != nil {
			lacksRules(t, err)
		}
		must(t, unix.SetNonblock(c.Int(), true))
		if err := unix.Connect(c.Int(), to); !errors.Is(err, unix.EINPROGRESS) {
			t.Fatal(err)
		}
		o := &options.Dump{}
		o.TCPEstablished = true
		env, f := environment(t, o, images{}, c.Int())
		k := New()
		if !k.Match(f) {
			t.Fatal("no match")
		}
		if flows, err := k.Flows(env, f); err != nil || len(flows) != 1 || flows[0].Remote != decode(to).addrPort() {
			t.Fatal(flows, err)
		}
		in, err := dumped(t, o, c.Int())
		must(t, err)
		must(t, c.Close())
		again := own(t, restored(t, in)[1], nil)
		p := &pair{sort: s, ends: [2]*fd.FD{again, again}}
		p.await(t, 0, tcp.SynSent)
		must(t, lock.Release())
		p.await(t, 0, tcp.Established)
		n, _, err := unix.Accept4(l.Int(), unix.SOCK_CLOEXEC)
		p.ends[1] = own(t, n, err)
		p.send(t, 0, 1000)
		p.drain(t, 1)
	}
}

// send sends as much of n bytes as there is room for.
func (p *pair) send(t testing.TB, from, n int) {
	t.Helper()
	b := make([]byte, min(n, 64<<10))
	for n > 0 {
		for i := 0; i+8 <= len(b); i += 8 {
			binary.NativeEndian.PutUint64(b[i:], rand.Uint64())
		}
		k, err := unix.SendmsgN(p.ends[from].Int(), b[:min(n, len(b))], nil, nil, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		must(t, err)
		p.sent[from] = append(p.sent[from], b[:k]...)
		n -= k
	}
}

// drain reads all that was sent to an end.
func (p *pair) drain(t testing.TB, at int) {
	t.Helper()
	want := len(p.sent[1-at])
	buf := make([]byte, 1<<20)
	must(t, unix.SetsockoptTimeval(p.ends[at].Int(), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}))
	for len(p.got[at]) < want {
		n, err := unix.Read(p.ends[at].Int(), buf)
		if errors.Is(err, unix.EINTR) {
			continue // a read with a time limit isn't begun again after a signal, and the runtime sends some
		}
		if err != nil || n == 0 {
			t.Fatalf("end %d: %d bytes, %v, after %d of %d", at, n, err, len(p.got[at]), want)
		}
		p.got[at] = append(p.got[at], buf[:n]...)
	}
	must(t, unix.SetsockoptTimeval(p.ends[at].Int(), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{}))
	if !bytes.Equal(p.got[at], p.sent[1-at]) {
		t.Errorf("end %d didn't get what was sent", at)
	}
}

// move dumps some ends, closes them silently, and makes them again.
func (p *pair) move(t testing.TB, which ...int) {
	t.Helper()
	var numbers []int
	var before []seen
	for _, i := range which {
		numbers = append(numbers, p.ends[i].Int())
		before = append(before, see(t, p.sort, p.ends[i].Int()))
	}
	o := &options.Dump{}
	o.TCPEstablished = true
	lock, err := netlock.Open()
	must(t, err)
	defer lock.Close()
	env, f := environment(t, o, images{}, numbers[0])
	flows, err := New().Flows(env, f)
	must(t, err)
	if err := lock.Hold("glis-test-inet", flows); err != nil {
		lacksRules(t, err)
	}
	in, err := dumped(t, o, numbers...)
	must(t, err)
	for _, n := range numbers {
		if !p.notAlone {
			toldAlone(t, o, n)
		}
	}
	for i, n := range numbers {
		if diff := diff(p.sort, before[i], see(t, p.sort, n)); diff != "" {
			t.Errorf("the dump changed end %d: %s", which[i], diff)
		}
	}
	for _, i := range which {
		must(t, tcp.Repair().Set(p.ends[i].Int()))
		must(t, p.ends[i].Close())
	}
	nodes, err := planned(in)
	must(t, err)
	for _, n := range nodes {
		must(t, n.(plan.Checked).Check(&plan.CheckEnv{Log: slog.New(slog.DiscardHandler)}))
		d, err := n.Create(context.Background(), &plan.Env{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("%v: %v", n, err)
		}
		t.Cleanup(func() { d.Close() })
		p.ends[which[n.ID()-1]] = d
	}
	must(t, lock.Release())
	for _, n := range nodes {
		for _, o := range n.(plan.Resumer).Resume() {
			must(t, o.Set(p.ends[which[n.ID()-1]].Int()))
		}
	}
	for i, e := range which {
		if diff := diff(p.sort, before[i], see(t, p.sort, p.ends[e].Int())); diff != "" {
			t.Errorf("end %d: %s", e, diff)
		}
	}
}

// diff compares what is seen of an end, but for sizes that the kernel tunes,
// and for what the peer sends when it may.
func diff(s sort, a, b seen) string {
	a.Values, b.Values = slices.Clone(a.Values), slices.Clone(b.Values)
	a.Revents |= b.Revents & (unix.POLLIN | unix.POLLOUT)
	names := table(s)
	own := false
	for i, o := range names {
		own = own || o.Name == "SO_BUF_LOCK" && a.Values[i].Lo&rcvbufLocked != 0
	}
	for i, o := range names {
		switch {
		case o.Name == "SO_SNDBUF", o.Name == "TCP_WINDOW_CLAMP", o.Name == "SO_RCVBUF" && tuned(own, a.Values[i].Lo, b.Values[i].Lo):
			a.Values[i], b.Values[i] = socket.Value{}, socket.Value{}
		case o.Name == "SO_RCVBUF":
			a.Values[i].Lo, b.Values[i].Lo = a.Values[i].Lo&^1, b.Values[i].Lo&^1
		}
	}
	return cmp.Diff(a, b)
}

// tuned tells whether a receive buffer may well have another size now: one
// that nobody has set is enlarged by the kernel at any read (tcp_rcv_space_adjust),
// also by one that only looks, if more was read lately. It can be told halves
// only, which makes an odd size one less.
func tuned(own bool, before, after uint64) bool {
	return !own && after|1 >= before || before > 1<<19
}

func TestConnection(t *testing.T) {
	both := []struct {
		name string
		sort sort
		ip   string
	}{{"4", tcp4, "127.0.0.1"}, {"6", tcp6, "::1"}, {"mapped", tcp6, "::ffff:127.0.0.1"}}
	sizes := []int{0, 5, 100_000}
	moved := map[string][]int{"client": {0}, "server": {1}, "both": {0, 1}}
	for _, b := range both {
		for who, ends := range moved {
			for _, size := range append(sizes, 20<<20) {
				if size > 1<<20 && b.name != "4" {
					continue
				}
				t.Run(strings.Join([]string{b.name, who, byteCount(size)}, "/"), func(t *testing.T) {
					p := paired(t, b.sort, b.ip)
					for range 2 {
						p.send(t, 0, size)
						p.send(t, 1, size)
						p.move(t, ends...)
						p.drain(t, 0)
						p.drain(t, 1)
					}
					p.send(t, 0, 1000)
					p.drain(t, 1)
				})
			}
		}
	}
}

func byteCount(n int) string {
	switch {
	case n >= 1<<20:
		return "flood"
	case n > 1000:
		return "much"
	case n > 0:
		return "little"
	}
	return "idle"
}

// set sets an option of an end.
func (p *pair) set(t testing.TB, end, level, opt, v int) {
	t.Helper()
	must(t, unix.SetsockoptInt(p.ends[end].Int(), level, opt, v))
}

// Segments are as large as before from the first one on, be it that something waits.
func TestConnectionSegments(t *testing.T) {
	for _, s := range []sort{tcp4, tcp6} {
		ip := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family]
		for _, bytes := range []int{0, 1000} {
			p := paired(t, s, ip)
			p.send(t, 0, bytes)
			size := func() (of [2]int) {
				for i, d := range p.ends {
					var err error
					of[i], err = unix.GetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
					must(t, err)
				}
				return of
			}
			want := size()
			p.move(t, 0, 1)
			if got := size(); got != want {
				t.Errorf("%v, %d bytes: segments of %d bytes, were %d", ip, bytes, got, want)
			}
			p.drain(t, 1)
		}
	}
}

func TestConnectionOptions(t *testing.T) {
	p := paired(t, tcp4, "127.0.0.1")
	sol, ip, level := unix.SOL_SOCKET, unix.IPPROTO_IP, unix.IPPROTO_TCP
	for _, o := range [][3]int{
		{sol, unix.SO_REUSEADDR, 1}, {sol, unix.SO_KEEPALIVE, 1}, {sol, unix.SO_OOBINLINE, 1}, {sol, unix.SO_RCVLOWAT, 10}, {sol, unix.SO_PRIORITY, 3},
		{sol, unix.SO_MAX_PACING_RATE, 1 << 20},
		{ip, unix.IP_TOS, 8}, {ip, unix.IP_TTL, 33}, {ip, unix.IP_RECVERR, 1}, {ip, unix.IP_MINTTL, 2},
		{level, unix.TCP_NODELAY, 1}, {level, unix.TCP_KEEPIDLE, 50}, {level, unix.TCP_USER_TIMEOUT, 9999}, {level, unix.TCP_NOTSENT_LOWAT, 4096},
		{level, unix.TCP_LINGER2, 5}, {level, unix.TCP_INQ, 1},
	} {
		p.set(t, 0, o[0], o[1], o[2])
	}
	must(t, unix.SetsockoptString(p.ends[0].Int(), level, unix.TCP_CONGESTION, "reno"))
	p.set(t, 1, level, unix.TCP_CORK, 1)
	if err := unix.SetsockoptInt(p.ends[1].Int(), sol, unix.SO_PEEK_OFF, 3); err != nil {
		t.Log(err)
	}
	must(t, unix.Shutdown(p.ends[1].Int(), unix.SHUT_RD))
	for range 3 {
		p.send(t, 0, 3000)
		p.send(t, 1, 3000)
		p.move(t, 0, 1)
		p.drain(t, 0)
	}
	p.drain(t, 1)
}

func TestFlows(t *testing.T) {
	p := paired(t, tcp6, "::ffff:127.0.0.1")
	o := &options.Dump{}
	env, f := environment(t, o, images{}, p.ends[0].Int())
	if _, err := New().Flows(env, f); !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), "--tcp-established") {
		t.Errorf("error %v, want advice", err)
	}
	o.TCPEstablished = true
	got, err := New().Flows(env, f)
	must(t, err)
	sa, err := unix.Getsockname(p.ends[0].Int())
	must(t, err)
	peer, err := unix.Getpeername(p.ends[0].Int())
	must(t, err)
	want := []netlock.Flow{{Protocol: 6, Local: decode(sa).addrPort(), Remote: decode(peer).addrPort()}}
	if len(got) != 1 || got[0] != want[0] || !got[0].Local.Addr().Is4() {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestConnectionRefused(t *testing.T) {
	o := &options.Dump{}
	o.TCPEstablished = true
	t.Run("early data", func(t *testing.T) {
		l, c := tcp4.bound(t, "127.0.0.1"), tcp4.bound(t, "127.0.0.1")
		to, err := unix.Getsockname(l.Int())
		must(t, err)
		from, err := unix.Getsockname(c.Int())
		must(t, err)
		lock, err := netlock.Open()
		must(t, err)
		defer lock.Close()
		if err := lock.Hold("glis-test-early", []netlock.Flow{{Protocol: unix.IPPROTO_TCP, Local: decode(from).addrPort(), Remote: decode(to).addrPort()}}); err != nil {
			lacksRules(t, err)
		}
		must(t, unix.SetNonblock(c.Int(), true))
		const noCookie = 34 // TCP_FASTOPEN_NO_COOKIE
		must(t, unix.SetsockoptInt(c.Int(), unix.IPPROTO_TCP, noCookie, 1))
		if err := unix.Sendto(c.Int(), []byte("early"), unix.MSG_FASTOPEN, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			testkit.Lacks(t, "TCP Fast Open", err, unix.EOPNOTSUPP)
		}
		refused(t, o, c.Int(), "MSG_FASTOPEN")
	})
	t.Run("upper protocol", func(t *testing.T) {
		p := paired(t, tcp4, "127.0.0.1")
		testkit.Lacks(t, "kTLS", unix.SetsockoptString(p.ends[0].Int(), unix.IPPROTO_TCP, unix.TCP_ULP, "tls"), unix.ENOENT, unix.ENOPROTOOPT)
		refused(t, o, p.ends[0].Int(), `the protocol "tls" is on top of it (TCP_ULP)`)
	})
	t.Run("urgent data behind the end", func(t *testing.T) {
		p := paired(t, tcp4, "127.0.0.1")
		must(t, unix.Sendmsg(p.ends[0].Int(), []byte("before!"), nil, nil, unix.MSG_OOB))
		must(t, unix.Sendmsg(p.ends[0].Int(), []byte("behind"), nil, nil, 0))
		in, err := dumped(t, o, p.ends[1].Int())
		testkit.KernelMemory(t, err)
		_, err = planned(in)
		must(t, err)
		e := in[of(extra.Sockets)][0].Message.(*extra.SocketEntry)
		if e.GetUrgent().GetOffset() != 6 || e.GetUrgent().GetRead() {
			t.Errorf("%v", e.GetUrgent())
		}
		e.Urgent.Offset = proto.Uint32(13)
		if _, err := planned(in); err == nil {
			t.Error("no error")
		}
	})
}

// state is what TCP_INFO says of an end.
func (p *pair) state(t testing.TB, end int) int {
	t.Helper()
	i, err := tcp.Look(p.ends[end].Int())
	must(t, err)
	return i.State
}

// await waits until an end is in a state: packets on loopback are there at
// once, but not always.
func (p *pair) await(t testing.TB, end, state int) {
	t.Helper()
	for end2 := time.Now().Add(testkit.Patience); p.state(t, end) != state; {
		if time.Now().After(end2) {
			t.Fatalf("end %d is in state %d, not %d", end, p.state(t, end), state)
		}
		time.Sleep(time.Millisecond)
	}
}

// ended checks that an end has nothing more to read, and no error.
func (p *pair) ended(t testing.TB, end int) {
	t.Helper()
	n, err := unix.Read(p.ends[end].Int(), make([]byte, 10))
	if n != 0 || err != nil {
		t.Errorf("end %d: %d bytes, %v, want the end", end, n, err)
	}
}

// An end that is in the midst of closing goes on from there: whatever state it
// is in, wherever its peer is.
func TestStates(t *testing.T) {
	for _, s := range []struct {
		name string
		sort sort
		ip   string
	}{{"4", tcp4, "127.0.0.1"}, {"6", tcp6, "::1"}} {
		for who, ends := range map[string][]int{"closer": {0}, "peer": {1}, "both": {0, 1}} {
			for _, size := range []int{0, 1000, 8 << 20} {
				name := strings.Join([]string{s.name, who, byteCount(size)}, "/")
				t.Run("half closed/"+name, func(t *testing.T) { halfClosed(t, paired(t, s.sort, s.ip), size, ends) })
			}
		}
	}
	t.Run("last acknowledgement", func(t *testing.T) { lastAck(t) })
	t.Run("closing", func(t *testing.T) { closing(t) })
}

// halfClosed: end 0 has sent all and closed its direction, end 1 not.
func halfClosed(t *testing.T, p *pair, size int, ends []int) {
	p.send(t, 0, size)
	p.send(t, 1, size)
	must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR))
	if size < 1<<20 {
		p.await(t, 0, tcp.FinWait2)
		p.await(t, 1, tcp.CloseWait)
	} else {
		p.await(t, 0, tcp.FinWait1) // its end is behind a full window
	}
	for range 2 {
		p.move(t, ends...)
	}
	p.drain(t, 0)
	p.drain(t, 1)
	p.ended(t, 1)
	p.await(t, 0, tcp.FinWait2)
	p.await(t, 1, tcp.CloseWait)
	p.send(t, 1, 5000)
	p.move(t, ends...)
	p.drain(t, 0)
	must(t, unix.Shutdown(p.ends[1].Int(), unix.SHUT_WR))
	p.await(t, 1, tcp.Closed)
	p.ended(t, 0)
}

// lastAck: both have closed, and what one has sent last is behind a full window.
func lastAck(t *testing.T) {
	p := paired(t, tcp4, "127.0.0.1")
	must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR))
	p.await(t, 1, tcp.CloseWait)
	p.send(t, 1, 8<<20)
	must(t, unix.Shutdown(p.ends[1].Int(), unix.SHUT_WR))
	p.await(t, 1, tcp.LastAck)
	p.move(t, 1)
	p.await(t, 1, tcp.LastAck)
	p.move(t, 0, 1)
	p.drain(t, 0)
	p.ended(t, 0)
	p.await(t, 1, tcp.Closed)
}

// closing: both close at the same time, while packets are held back.
func closing(t *testing.T) {
	p := paired(t, tcp4, "127.0.0.1")
	p.send(t, 0, 8<<20)
	p.send(t, 1, 8<<20)
	must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR))
	must(t, unix.Shutdown(p.ends[1].Int(), unix.SHUT_WR))
	p.await(t, 0, tcp.FinWait1)
	p.await(t, 1, tcp.FinWait1)
	p.move(t, 0, 1)
	p.drain(t, 1) // end 0's end arrives, its acknowledgement waits for nothing
	p.await(t, 1, tcp.Closing)
	p.move(t, 1)
	p.await(t, 1, tcp.Closing)
	p.drain(t, 0)
	p.ended(t, 0)
	p.ended(t, 1)
}

// With --tcp-close nothing of a connection is saved, and its socket is as one
// whose connection has ended.
func TestTCPClose(t *testing.T) {
	p := paired(t, tcp4, "127.0.0.1")
	p.set(t, 0, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	p.send(t, 1, 1000)
	o := &options.Dump{}
	o.TCPClose = true
	in, err := dumped(t, o, p.ends[0].Int())
	must(t, err)
	if _, err := planned(in); err == nil || !strings.Contains(err.Error(), "--tcp-close") {
		t.Errorf("error %v, want advice", err)
	}
	r := &options.Restore{}
	r.TCPClose = true
	nodes, err := plannedWith(in, r)
	must(t, err)
	must(t, nodes[0].(plan.Checked).Check(&plan.CheckEnv{Log: slog.New(slog.DiscardHandler)}))
	if f := nodes[0].(plan.Locked).Flows(nil); f != nil {
		t.Errorf("it wants %v locked", f)
	}
	d, err := nodes[0].Create(context.Background(), &plan.Env{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer d.Close()
	p.ends[0] = d
	p.ended(t, 0)
	if err := unix.Sendmsg(d.Int(), []byte("x"), nil, nil, unix.MSG_NOSIGNAL); !errors.Is(err, unix.EPIPE) {
		t.Errorf("send: %v", err)
	}
	if on, err := unix.GetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_NODELAY); on != 1 || err != nil {
		t.Errorf("TCP_NODELAY is %d, %v", on, err)
	}
}
