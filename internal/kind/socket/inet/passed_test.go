package inet

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// Who waits has the options that its listener had when it came: each of those that can be
// set, given to the listener before it came and taken back since, or the other way round.
func TestPassed(t *testing.T) {
	testkit.RequireRoot(t)
	if _, err := lonely(); errors.Is(err, kmem.ErrUnavailable) {
		testkit.KernelMemory(t, err)
	}
	for _, s := range []sort{tcp4, {family: unix.AF_INET6, protocol: unix.IPPROTO_TCP}} {
		for clients, then := range map[int]string{3: "taken back", 4: "given"} {
			t.Run(socket.FamilyName(s.family)+" "+then, func(t *testing.T) { passedOn(t, s, clients) })
		}
	}
}

// passedOn has clients wait at listeners each of which has an option every second time.
func passedOn(t *testing.T, s sort, clients int) {
	all := passedOptions(t, s)
	var fds []int
	var listeners []*fd.FD
	for i := range all {
		p := &all[i]
		n := p.awaited(t, s, clients).Int()
		p.was = optionsOf(t, s, n)
		for range clients {
			p.accepted = append(p.accepted, acceptedOptions(t, s, n))
		}
		d := p.awaited(t, s, clients)
		fds, listeners = append(fds, d.Int()), append(listeners, d)
	}
	o := &options.Dump{}
	o.TCPEstablished = true
	in, err := dumped(t, o, fds...)
	must(t, err)
	holdAll(t, in)
	for _, d := range listeners {
		must(t, d.Close())
	}
	back := restored(t, in)
	for i, p := range all {
		n := back[plan.ID(i+1)]
		must(t, unix.SetNonblock(n, true))
		sameOptions(t, s, p.name+": the listener", p.was, optionsOf(t, s, n))
		for _, want := range p.accepted {
			sameOptions(t, s, p.name+": a client", want, acceptedOptions(t, s, n))
		}
	}
}

// passedOption is one of a listener, its value every second time, and what it is natively.
type passedOption struct {
	name     string
	off, on  func(n int) error
	was      []socket.Value
	accepted [][]socket.Value
}

// awaited is a listener at which clients wait.
func (p *passedOption) awaited(t *testing.T, s sort, clients int) *fd.FD {
	d := listenerOf(t, s)
	n := d.Int()
	for i := range clients {
		switch {
		case i%2 == 1:
			must(t, p.on(n))
		case i > 0:
			if p.off(n) != nil {
				t.Logf("%s can't be taken back", p.name)
			}
		}
		client(t, s, n)
	}
	return d
}

func passedOptions(t *testing.T, s sort) (all []passedOption) {
	k, err := New().kernel(s)
	must(t, err)
	for i := range k.Table {
		o := &k.Table[i]
		switch o.Name {
		case "TCP_DEFER_ACCEPT", "SO_LOCK_FILTER", "TCP_SAVE_SYN": // see TestBacklog, TestPassedRefused, TestKeptSyn
			continue
		}
		off := k.Fresh[i]
		on, ok := another(t, s, o, off)
		if o.Name == "TCP_MAXSEG" { // what it tells can't be set so
			off = socket.Uint(0)
		}
		if ok {
			all = append(all, passedOption{name: o.Name, off: func(n int) error { return o.Write(n, off) }, on: func(n int) error { return o.Write(n, on) }})
		}
	}
	return all
}

// another is a value that a listener can be given, other than a new one's.
func another(t *testing.T, s sort, o *socket.Option, fresh socket.Value) (socket.Value, bool) {
	if !fresh.OK {
		return fresh, false
	}
	all := []uint64{fresh.Lo ^ 1, fresh.Lo ^ 4, 1, 2, 1000, 1 << 16, 1<<24 | 1}
	switch o.Name {
	case "TCP_CONGESTION":
		all = []uint64{0x6f6e6572} // reno
	case "TCP_MAXSEG":
		all = []uint64{1300}
	}
	for _, lo := range all {
		d := listenerOf(t, s).Int()
		v := socket.Value{Lo: lo, OK: true}
		if o.Write(d, v) != nil {
			continue
		}
		if got, err := o.Read(d); err == nil && got != fresh {
			return v, true
		}
	}
	return fresh, false
}

func listenerOf(t *testing.T, s sort) *fd.FD {
	d := s.bound(t, s.loopback())
	must(t, unix.Listen(d.Int(), 5))
	return d
}

func (s sort) loopback() string {
	if s.family == unix.AF_INET6 {
		return "::1"
	}
	return "127.0.0.1"
}

func optionsOf(t *testing.T, s sort, n int) []socket.Value {
	t.Helper()
	k, err := New().kernel(s)
	must(t, err)
	all := make([]socket.Value, len(k.Table))
	must(t, k.Read(n, all))
	return all
}

func acceptedOptions(t *testing.T, s sort, listener int) []socket.Value {
	t.Helper()
	n, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	must(t, err)
	defer unix.Close(n)
	s.connected = true
	return optionsOf(t, s, n)
}

func sameOptions(t *testing.T, s sort, what string, want, got []socket.Value) {
	t.Helper()
	s.connected = len(want) != len(table(s))
	for i, o := range table(s) {
		if want[i] != got[i] {
			t.Errorf("%s of %s is %v, was %v", o.Name, what, got[i], want[i])
		}
	}
}

// What a listener can't be lent, or who waits can't be found to have, is refused; what it has
// had all the time is not.
func TestPassedRefused(t *testing.T) {
	testkit.RequireRoot(t)
	if _, err := lonely(); errors.Is(err, kmem.ErrUnavailable) {
		testkit.KernelMemory(t, err)
	}
	set := func(level, opt int, v ...byte) func(int) error {
		return func(n int) error { return linux.Setsockopt(n, level, opt, v) }
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16}
	for name, x := range map[string]struct {
		set func(n int) error
		why string
	}{
		"filter": {func(n int) error {
			return unix.SetsockoptSockFprog(n, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
		}, "SO_ATTACH_FILTER"},
		"locked":  {set(unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1, 0, 0, 0), "SO_LOCK_FILTER"},
		"budget":  {set(unix.SOL_SOCKET, 70, 9, 0, 0, 0), "SO_BUSY_POLL_BUDGET"},
		"address": {set(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(make([]byte, 16), 1, 0, 0, 0)...), "IPV6_PKTINFO"},
		"segment": {set(unix.IPPROTO_TCP, unix.TCP_MAXSEG, 24, 2, 0, 0), "TCP_MAXSEG"},
		"size":    {set(unix.IPPROTO_IPV6, unix.IPV6_MTU, 0, 6, 0, 0), "IPV6_MTU"},
		"headers": {set(unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, 17, 0, 1, 4, 0, 0, 0, 0), "IPV6_HOPOPTS"},
		"policy":  {set(unix.IPPROTO_IPV6, unix.IPV6_XFRM_POLICY, xfrmPolicy()...), "IPsec"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				s := tcp6
				if name == "segment" { // so small ones are refused there
					s = tcp4
				}
				d := listenerOf(t, s)
				steps := []func(int) error{x.set, func(n int) error { client(t, s, n); return nil }}
				if late {
					slices.Reverse(steps)
				}
				for _, f := range steps {
					must(t, f(d.Int()))
				}
				o := &options.Dump{}
				o.TCPEstablished = true
				_, err := dumped(t, o, d.Int())
				if !late && err != nil {
					t.Errorf("it had it: %v", err)
				}
				if !late && name == "segment" { // and has it off since
					must(t, linux.SockOpt{Level: unix.IPPROTO_TCP, Name: unix.TCP_MAXSEG, Value: 0}.Set(d.Int()))
					if _, err := dumped(t, o, d.Int()); err == nil || !strings.Contains(err.Error(), x.why) {
						t.Errorf("it had it: error %v", err)
					}
				}
				if late && (!errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), x.why)) {
					t.Errorf("it got it: error %v", err)
				}
			}
		})
	}
}

// xfrmPolicy is a struct xfrm_userpolicy_info that lets all out that is sent by IPv6.
func xfrmPolicy() []byte {
	b := make([]byte, 168)
	b[40], b[160] = unix.AF_INET6, 1 // XFRM_POLICY_OUT
	return b
}

// What it costs to read clients that wait, and their options besides.
func BenchmarkPassed(b *testing.B) {
	const clients = 500
	d := tcp4.make(b)
	must(b, unix.Bind(d.Int(), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(b, unix.Listen(d.Int(), clients))
	for range clients {
		client(b, tcp4, d.Int())
	}
	o := &options.Dump{}
	o.TCPEstablished = true
	env, f := environment(b, o, images{}, d.Int())
	l := &look{kind: New(), env: env, file: f, fd: d, sort: tcp4}
	must(b, l.lookTCP())
	must(b, l.readOptions())
	for _, too := range []bool{false, true} {
		b.Run(map[bool]string{false: "clients", true: "and options"}[too], func(b *testing.B) {
			for b.Loop() {
				_, err := l.readWaiting(too)
				must(b, err)
			}
		})
	}
}
