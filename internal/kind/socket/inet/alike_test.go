package inet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

func learnt(t testing.TB) (*Kind, *alikes) {
	t.Helper()
	k := New()
	a, err := k.learnAlikes(memory(t), map[string]int{"TCP": fewConnections, "TCP6": fewConnections, "UDP": severalDescriptors, "UDP6": severalDescriptors})
	must(t, err)
	return k, a
}

// memory opens the kernel's memory.
func memory(t testing.TB) *sockmem.TCPReader {
	t.Helper()
	m, err := sockmem.OpenTCP()
	testkit.KernelMemory(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

// groups returns the groups of sockets of this process.
func (a *alikes) groups(t testing.TB, family int, fds ...int) map[int]*socket.Group {
	t.Helper()
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	must(t, err)
	defer unix.Close(self)
	out := map[int]*socket.Group{}
	must(t, a.memory.Each(self, func(m sockmem.Socket) error {
		if slices.Contains(fds, int(m.FD)) {
			if got := socket.FamilyOf(a.memory.TCP, m.Sock); got != family {
				t.Errorf("descriptor %d is of family %d, not %d", m.FD, got, family)
			}
			out[int(m.FD)] = a.by[family].Of(m.Sock)
		}
		return nil
	}))
	if len(out) != len(fds) {
		t.Fatalf("%d sockets of %d are shown", len(out), len(fds))
	}
	return out
}

// Whatever option is set to whatever value, what is taken from another
// connection is what the connection has itself.
func TestAlike(t *testing.T) {
	k, a := learnt(t)
	rng := rand.New(rand.NewPCG(3, 4))
	tried := 0
	for family, ip := range map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"} {
		s := sort{family: family, protocol: unix.IPPROTO_TCP}
		for _, o := range table(sort{family: family, protocol: unix.IPPROTO_TCP, connected: true}) {
			var fds []int
			var pairs []*pair
			for range 4 {
				p := paired(t, s, ip)
				pairs = append(pairs, p)
				fds = append(fds, p.ends[0].Int(), p.ends[1].Int())
			}
			for _, n := range fds[1:] { // the first is untouched
				if setSomehow(rng, n, &o) {
					tried++
				}
			}
			k.checkGroups(t, o.Name, a.groups(t, family, fds...))
			for _, p := range pairs {
				must(t, errors.Join(p.ends[0].Close(), p.ends[1].Close()))
			}
		}
	}
	if tried < 500 {
		t.Errorf("only %d options were set", tried)
	}
}

// setSomehow sets an option to a value that the kernel takes.
func setSomehow(rng *rand.Rand, fd int, o *socket.Option) bool {
	for range 20 {
		b := make([]byte, 16)
		binary.LittleEndian.PutUint64(b, rng.Uint64()>>rng.UintN(64))
		binary.LittleEndian.PutUint64(b[8:], rng.Uint64N(1e6))
		if o.Size == 4 && rng.IntN(3) == 0 { // an interface, as in packets
			copy(b, []byte{0, 0, 0, 1})
		}
		if o.Name == "TCP_CONGESTION" {
			copy(b, "reno\x00")
		}
		if linux.Setsockopt(fd, o.Level, o.Opt, b[:o.Size]) == nil {
			return true
		}
	}
	return false
}

// checkGroups compares what a group tells of its members with what they tell.
func (k *Kind) checkGroups(t *testing.T, name string, of map[int]*socket.Group) {
	t.Helper()
	for fd, g := range of {
		family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		must(t, err)
		kernel, err := k.kernel(sort{family: family, protocol: unix.IPPROTO_TCP, connected: true})
		must(t, err)
		want, err := kernel.Save(fd, make([]socket.Value, len(kernel.Table)), true)
		must(t, err)
		if !g.Known() {
			g.Learn(want)
			continue
		}
		got, err := g.Save(fd)
		must(t, err)
		for i, v := range got.Values {
			if v != want.Values[i] {
				t.Errorf("%s was set, and %s is %v by what others have, %v by the socket", name, kernel.Table[i].Name, v, want.Values[i])
			}
		}
	}
}

// What is attached to a connection makes it unlike those without.
func TestUnlike(t *testing.T) {
	_, a := learnt(t)
	drop := unix.SockFilter{Code: 6, K: 1 << 16}
	for name, set := range map[string]func(fd int) error{
		"SO_ATTACH_FILTER": func(fd int) error {
			return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
		},
		"SO_BINDTOIFINDEX": func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 1) },
		"IP_OPTIONS":       func(fd int) error { return linux.Setsockopt(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, []byte{1, 1, 1, 0}) },
		"TCP_ULP":          func(fd int) error { return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, "tls") },
		"TCP_MD5SIG":       func(fd int) error { return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, key()) },
		"IP_ADD_MEMBERSHIP": func(fd int) error {
			return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: [4]byte{224, 1, 1, 1}, Ifindex: 1})
		},
	} {
		p, q := paired(t, tcp4, "127.0.0.1"), paired(t, tcp4, "127.0.0.1")
		x, y := p.ends[0].Int(), q.ends[0].Int()
		if err := set(y); err != nil {
			t.Logf("%s: %v", name, err) // what can't be set isn't there
			continue
		}
		if g := a.groups(t, unix.AF_INET, x, y); g[x] == g[y] {
			t.Errorf("a connection with %s is like one without", name)
		}
	}
}

func key() *unix.TCPMD5Sig {
	k := &unix.TCPMD5Sig{Keylen: 3, Key: [80]byte{1, 2, 3}}
	k.Addr.Family = unix.AF_INET
	copy(k.Addr.Data[2:], []byte{127, 0, 0, 1})
	return k
}

// Connections that are only used are mostly alike; else it is of no use.
func TestAlikeUsed(t *testing.T) {
	_, a := learnt(t)
	var fds []int
	for i := range 30 {
		p := paired(t, tcp4, "127.0.0.1")
		for _, e := range p.ends {
			must(t, unix.SetsockoptInt(e.Int(), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1))
			fds = append(fds, e.Int())
		}
		_, err := unix.Write(p.ends[i%2].Int(), make([]byte, 1000*i))
		must(t, err)
	}
	of := map[*socket.Group]bool{}
	for _, g := range a.groups(t, unix.AF_INET, fds...) {
		of[g] = true
	}
	if len(of) > len(fds)/4 {
		t.Errorf("%d connections that are only used are in %d groups", len(fds), len(of))
	}
}

// A dump with what was learnt writes what a dump without it does.
func TestAlikeDump(t *testing.T) {
	var fds []int
	for i := range 12 {
		p := paired(t, tcp4, "127.0.0.1")
		fds = append(fds, p.ends[0].Int(), p.ends[1].Int())
		switch i {
		case 3:
			must(t, unix.SetsockoptInt(fds[6], unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		case 4:
			must(t, unix.SetsockoptInt(fds[8], unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 12345))
		case 5:
			must(t, unix.SetsockoptLinger(fds[10], unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 4}))
		}
	}
	o := &options.Dump{}
	o.TCPEstablished = true
	env, _ := environment(t, o, images{}, fds...)
	plain, quick := New(), New()
	quick.PrepareFor(severalDescriptors, memory(t))
	for _, f := range env.Tree.Files {
		if !plain.Match(f) {
			t.Fatal("no match")
		}
		want, err := plain.Dump(context.Background(), env, f)
		must(t, err)
		got, err := quick.Dump(context.Background(), env, f)
		must(t, err)
		a, err := proto.Marshal(want.GetIsk())
		must(t, err)
		if b, err := proto.Marshal(got.GetIsk()); err != nil || !bytes.Equal(a, b) {
			t.Errorf("descriptor %d: %x, want %x (%v)", f.FD, b, a, err)
		}
	}
	if quick.alike == nil || !quick.alike.surveyed {
		t.Error("nothing was looked at")
	}
}

// A connection from which IP options were taken, as a restore does, is like one that
// never had any; one that has some is not.
func TestAlikeWithoutOptions(t *testing.T) {
	_, a := learnt(t)
	for _, x := range []struct {
		sort
		ip string
		v4 bool
	}{{tcp4, "127.0.0.1", true}, {tcp6, "::ffff:127.0.0.1", true}, {tcp6, "::1", false}} {
		var fds []int
		for _, opts := range [][]byte{nil, {1, 1, 1, 0}, {1, 1, 1, 0}} {
			n := paired(t, x.sort, x.ip).ends[0].Int()
			fds = append(fds, n)
			if opts != nil {
				must(t, linux.Setsockopt(n, unix.IPPROTO_IP, unix.IP_OPTIONS, opts))
			}
		}
		must(t, linux.Setsockopt(fds[2], unix.IPPROTO_IP, unix.IP_OPTIONS, nil))
		g := a.groups(t, x.family, fds...)
		if g[fds[0]] == g[fds[1]] {
			t.Errorf("%s: one with IP options is like one without", x.ip)
		}
		if x.v4 && g[fds[0]] != g[fds[2]] {
			t.Errorf("%s: one that had IP options is not like one that never did", x.ip)
		}
	}
}
