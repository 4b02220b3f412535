package inet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// images keeps what a dump puts, in image form.
type images map[stored][]plan.Entry

type stored struct {
	row *image.Row
	ids string
}

// of is an image file without ids.
func of(row *image.Row) stored { return stored{row, "[]"} }

// guard is for tests, which aren't killed.
type guard struct{}

func (guard) Back(*scan.File, ...linux.SockOpt) error                 { return nil }
func (guard) BackAll([]*scan.File, ...linux.SockOpt) error            { return nil }
func (guard) Leave(*scan.File, linux.SockOpt, ...linux.SockOpt) error { return nil }
func (guard) Name(string, uint64, uint64) error                       { return nil }

func (m images) Put(row *image.Row, e proto.Message, payload []byte, ids ...uint32) error {
	b, err := proto.Marshal(e)
	if err != nil {
		return err
	}
	out := row.New()
	key := stored{row, fmt.Sprint(ids)}
	m[key] = append(m[key], plan.Entry{Message: out, Payload: payload})
	return proto.Unmarshal(b, out)
}

func (m images) Entries(row *image.Row, ids ...uint32) ([]plan.Entry, error) {
	return m[stored{row, fmt.Sprint(ids)}], nil
}

// environment is what a dump of descriptors of this process has at hand.
func environment(t testing.TB, o *options.Dump, out images, fds ...int) (*kind.DumpEnv, *scan.File) {
	t.Helper()
	n, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	pidfd := fd.New(n)
	t.Cleanup(func() { pidfd.Close() })
	task := &scan.Task{PID: proc.PID(os.Getpid()), VPID: 1, Pidfd: pidfd, Stat: proc.Stat{Comm: "test"}}
	tree := &scan.Tree{Root: task}
	tree.Add(task)
	for i, n := range fds {
		f := &scan.File{ID: uint32(i + 1), Task: task, FD: int32(n)}
		if err := f.Stat.At(n, ""); err != nil {
			t.Fatal(err)
		}
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Flags, f.Link = uint32(flags), fmt.Sprintf("socket:[%d]", f.Stat.Ino)
		tree.Files = append(tree.Files, f)
	}
	return &kind.DumpEnv{Log: slog.New(slog.DiscardHandler), Options: o, Tree: tree, Images: out, Guard: guard{}, Hold: func([]netlock.Flow) error { return nil }}, tree.Files[0]
}

// dumped dumps descriptors of this process.
func dumped(t testing.TB, o *options.Dump, fds ...int) (images, error) {
	t.Helper()
	return dumpedBy(t, New(), o, fds...)
}

func dumpedBy(t testing.TB, k *Kind, o *options.Dump, fds ...int) (images, error) {
	t.Helper()
	out := images{}
	env, _ := environment(t, o, out, fds...)
	for _, f := range env.Tree.Files {
		if !k.Match(f) {
			t.Fatalf("%v: no match", f)
		}
		e, err := k.Dump(context.Background(), env, f)
		if err != nil {
			return nil, err
		}
		e.Type, e.Id = k.Type().Enum(), &f.ID
		if err := out.Put(image.Files, e, nil); err != nil {
			t.Fatal(err)
		}
	}
	return out, nil
}

// planned plans what images have.
func planned(in images) ([]plan.Node, error) {
	o := &options.Restore{}
	o.TCPEstablished = true
	return plannedWith(in, o)
}

func plannedWith(in images, o *options.Restore) ([]plan.Node, error) {
	p, k := plan.New(in, o), New()
	for _, e := range in[of(image.Files)] {
		if err := k.Plan(p, e.Message.(*fdinfo.FileEntry)); err != nil {
			return nil, err
		}
	}
	if err := k.Planned(); err != nil {
		return nil, err
	}
	return p.Nodes()
}

// restored makes everything again and returns the new descriptors by ID.
func restored(t testing.TB, in images) map[plan.ID]int {
	t.Helper()
	for i, e := range testkit.Twins(t, filesOf(in[of(image.Files)])) {
		in[of(image.Files)][i].Message = e
	}
	nodes, err := planned(in)
	if err != nil {
		t.Fatal(err)
	}
	out := map[plan.ID]int{}
	for _, n := range nodes {
		d, err := n.Create(context.Background(), &plan.Env{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("%v: %v", n, err)
		}
		t.Cleanup(func() { d.Close() })
		out[n.ID()] = d.Int()
	}
	for _, n := range nodes {
		if n, ok := n.(*node); ok {
			for _, o := range n.settled() {
				must(t, o.Set(out[n.id]))
			}
		}
	}
	for _, n := range nodes {
		if d, ok := n.(plan.Dropper); ok {
			d.Drop()
		}
	}
	return out
}

// own closes a descriptor at the end of the test, or earlier.
func own(t testing.TB, n int, err error) *fd.FD {
	t.Helper()
	testkit.Lacks(t, "a family or protocol of sockets", err, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT)
	d := fd.New(n)
	t.Cleanup(func() { d.Close() })
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		testkit.NotShown(t, err.Error())
		t.Fatal(err)
	}
}

var (
	tcp4   = sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}
	tcp6   = sort{family: unix.AF_INET6, protocol: unix.IPPROTO_TCP}
	mptcp4 = sort{family: unix.AF_INET, protocol: unix.IPPROTO_MPTCP}
	mptcp6 = sort{family: unix.AF_INET6, protocol: unix.IPPROTO_MPTCP}
	udp4   = sort{family: unix.AF_INET, protocol: unix.IPPROTO_UDP}
	udp6   = sort{family: unix.AF_INET6, protocol: unix.IPPROTO_UDP}
)

func (s sort) String() string {
	return fmt.Sprintf("%s-%d", socket.FamilyName(s.family), s.protocol)
}

// make makes a socket of a sort.
func (s sort) make(t testing.TB) *fd.FD {
	t.Helper()
	n, err := s.like()
	return own(t, n, err)
}

// bound binds a socket to a port of this machine.
func (s sort) bound(t testing.TB, ip string) *fd.FD {
	t.Helper()
	d := s.make(t)
	if err := unix.Bind(d.Int(), address{ip: netip.MustParseAddr(ip)}.sockaddr(s.family, 0)); err != nil {
		testkit.Lacks(t, "an address", err, unix.EADDRNOTAVAIL)
	}
	return d
}

// lacksRules says why packets could not be held back.
func lacksRules(t testing.TB, err error) {
	t.Helper()
	testkit.Lacks(t, "nf_tables", err, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.ENOENT)
}

// seen is all that can be seen of a socket without changing it.
type seen struct {
	Values        []socket.Value
	At, Peer      string
	Flags, Signal int
	Accepts       int
	Backlog       int
	Revents       int16
	UID, GID      uint32
	Mode          uint32
	Filter        int
	Came          tcp.Came
}

func see(t testing.TB, s sort, n int) seen {
	t.Helper()
	k, err := New().kernel(s)
	must(t, err)
	saved, err := k.Save(n, make([]socket.Value, len(k.Table)), true)
	must(t, err)
	out := seen{Values: saved.Values, Filter: len(saved.Entry.GetSoFilter())}
	if sa, err := unix.Getsockname(n); err == nil {
		out.At = decode(sa).String()
	}
	if sa, err := unix.Getpeername(n); err == nil {
		out.Peer = decode(sa).String()
		if s.connected && decode(sa).addrPort().Addr().Is6() && !asksForMore(t, n) {
			out.Came, err = tcp.ReadCame(n, 0)
			must(t, err)
		}
	}
	out.Flags, _ = unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
	out.Signal, _ = unix.FcntlInt(uintptr(n), 11, 0)
	out.Accepts, _ = unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	i, err := unix.GetsockoptTCPInfo(n, unix.IPPROTO_TCP, unix.TCP_INFO)
	switch {
	case err == nil && out.Accepts == 1:
		out.Backlog = int(i.Sacked)
	case err == nil && i.State != tcp.Closed: // it changes when an acknowledgement is sent at last
		k.Know(out.Values, "TCP_QUICKACK", socket.Value{})
	}
	p := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN | unix.POLLOUT | unix.POLLRDHUP}}
	_, err = linux.PollNow(p)
	must(t, err)
	out.Revents = p[0].Revents
	var st unix.Stat_t
	must(t, unix.Fstat(n, &st))
	out.UID, out.GID, out.Mode = st.Uid, st.Gid, st.Mode
	return out
}

// asksForMore tells whether what comes with any segment is noted, such as a peer that is back
// answers with.
func asksForMore(t testing.TB, n int) bool {
	for _, opt := range []int{unix.IPV6_RECVTCLASS, ipv6Flowinfo, unix.IPV6_RECVHOPLIMIT, unix.IPV6_2292HOPLIMIT, unix.IPV6_RECVPKTINFO, unix.IPV6_2292PKTINFO} {
		on, err := unix.GetsockoptInt(n, unix.IPPROTO_IPV6, opt)
		must(t, err)
		if on != 0 {
			return true
		}
	}
	return false
}

// same dumps sockets, closes them, and compares what is restored.
func same(t *testing.T, s sort, fds ...*fd.FD) []int {
	t.Helper()
	return sameBut(t, s, func(_, _ *seen) {}, fds...)
}

// sameBut is same where something may be another, which forgive sees to.
func sameBut(t *testing.T, s sort, forgive func(was, is *seen), fds ...*fd.FD) []int {
	t.Helper()
	var numbers []int
	var before []seen
	for _, d := range fds {
		numbers = append(numbers, d.Int())
		before = append(before, see(t, s, d.Int()))
	}
	in, err := dumped(t, &options.Dump{}, numbers...)
	must(t, err)
	for i, d := range fds {
		if diff := cmp.Diff(before[i], see(t, s, d.Int())); diff != "" {
			t.Errorf("the dump changed socket %d: %s", i, diff)
		}
		must(t, d.Close())
	}
	made := restored(t, in)
	var out []int
	for i := range fds {
		n := made[plan.ID(i+1)]
		out = append(out, n)
		is := see(t, s, n)
		forgive(&before[i], &is)
		if diff := cmp.Diff(before[i], is); diff != "" {
			t.Errorf("socket %d: %s", i, diff)
		}
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	listen := func(backlog int) func(testing.TB, *fd.FD) {
		return func(t testing.TB, d *fd.FD) { must(t, unix.Listen(d.Int(), backlog)) }
	}
	set := func(level, opt, v int) func(testing.TB, *fd.FD) {
		return func(t testing.TB, d *fd.FD) { must(t, unix.SetsockoptInt(d.Int(), level, opt, v)) }
	}
	bind := func(t testing.TB, d *fd.FD) {
		must(t, unix.Bind(d.Int(), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	}
	type step = func(testing.TB, *fd.FD)
	tests := []struct {
		name  string
		sort  sort
		at    string
		steps []step
	}{
		{"new", tcp4, "", nil},
		{"new", tcp6, "", nil},
		{"bound", tcp4, "127.0.0.1", nil},
		{"bound", tcp6, "::1", nil},
		{"listener", tcp4, "127.0.0.1", []step{listen(7)}},
		{"any", tcp4, "0.0.0.0", []step{listen(0)}},
		{"listener", tcp6, "::1", []step{listen(7)}},
		{"any", tcp6, "::", []step{listen(7)}},
		{"deaf before it was connected", tcp4, "", []step{func(t testing.TB, d *fd.FD) { _ = unix.Shutdown(d.Int(), unix.SHUT_RD) }}},
		{"multipath", mptcp4, "", nil},
		{"multipath", mptcp4, "127.0.0.1", []step{set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), set(unix.SOL_SOCKET, unix.SO_RCVBUF, 70_000), set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), set(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1), listen(7)}},
		{"multipath", mptcp6, "::", []step{listen(7)}},
		{"mapped", tcp6, "::ffff:127.0.0.1", []step{listen(7)}},
		{"autobound", tcp4, "", []step{listen(3)}},
		{"no more a listener", tcp4, "127.0.0.1", []step{listen(3), func(t testing.TB, d *fd.FD) { must(t, unix.Shutdown(d.Int(), unix.SHUT_RD)) }}},
		{"without a port", tcp4, "", []step{set(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), bind}},
		{"without a port any more", tcp4, "", []step{set(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), bind, set(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 0)}},
		{"flags", tcp4, "127.0.0.1", []step{listen(3), func(t testing.TB, d *fd.FD) {
			must(t, unix.SetNonblock(d.Int(), true))
			_, err := unix.FcntlInt(uintptr(d.Int()), 10, int(unix.SIGUSR1))
			must(t, err)
		}}},
		{"filter", tcp4, "127.0.0.1", []step{listen(3), func(t testing.TB, d *fd.FD) {
			f := []unix.SockFilter{{Code: 6, K: 100}}
			must(t, unix.SetsockoptSockFprog(d.Int(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &f[0]}))
		}}},
		{"reset priority", tcp4, "", []step{set(unix.IPPROTO_IP, unix.IP_TOS, 0x10), set(unix.SOL_SOCKET, unix.SO_PRIORITY, 0)}},
		{"priority of its service", tcp4, "", []step{set(unix.IPPROTO_IP, unix.IP_TOS, 0x10)}},
		{"owner", tcp4, "127.0.0.1", []step{listen(3), func(t testing.TB, d *fd.FD) {
			must(t, unix.Fchown(d.Int(), 1234, 5678))
			must(t, unix.Fchmod(d.Int(), 0o640))
		}}},
		{"new", udp4, "", nil},
		{"new", udp6, "", nil},
		{"bound", udp4, "127.0.0.1", nil},
		{"any", udp4, "0.0.0.0", nil},
		{"bound", udp6, "::", nil},
		{"connected", udp4, "127.0.0.1", []step{connect(udp4)}},
		{"connected", udp6, "::1", []step{connect(udp6)}},
		{"size of segments for what goes with every packet", tcp4, "", []step{func(t testing.TB, d *fd.FD) {
			must(t, unix.SetsockoptString(d.Int(), unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x01"))
		}}},
		{"other way afterwards", udp4, "127.0.0.1", []step{connect(udp4), func(t testing.TB, d *fd.FD) {
			other := otherWay(t)
			set(unix.IPPROTO_IP, unix.IP_UNICAST_IF, other)(t, d)
		}}},
		{"autobound", udp4, "", []step{connect(udp4)}},
		{"autobound", udp6, "", []step{connect(udp6)}}, // IPV6_V6ONLY stays off
		{"from anywhere", udp6, "::", []step{connect(udp6)}},
		{"shut down", udp4, "127.0.0.1", []step{connect(udp4), func(t testing.TB, d *fd.FD) { must(t, unix.Shutdown(d.Int(), unix.SHUT_WR)) }}},
		{"deaf", udp4, "127.0.0.1", []step{connect(udp4), func(t testing.TB, d *fd.FD) { must(t, unix.Shutdown(d.Int(), unix.SHUT_RD)) }}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.sort, " ", tt.name), func(t *testing.T) {
			d := tt.sort.make(t)
			if tt.at != "" {
				d = tt.sort.bound(t, tt.at)
			}
			for _, s := range tt.steps {
				s(t, d)
			}
			same(t, tt.sort, d)
		})
	}
}

// otherWay is another interface than the loopback one, as IP_UNICAST_IF has it.
func otherWay(t testing.TB) int {
	t.Helper()
	all, err := net.Interfaces()
	must(t, err)
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			return int(bits.ReverseBytes32(uint32(i.Index)))
		}
	}
	t.Skip("there is the loopback interface only")
	return 0
}

// connect connects to another socket of this machine that stays open.
func connect(s sort) func(testing.TB, *fd.FD) {
	return func(t testing.TB, d *fd.FD) {
		t.Helper()
		ip := "127.0.0.1"
		if s.family == unix.AF_INET6 {
			ip = "::1"
		}
		sa, err := unix.Getsockname(s.bound(t, ip).Int())
		must(t, err)
		must(t, unix.Connect(d.Int(), sa))
	}
}

// TestEveryOption changes as many options as the kernel lets us.
func TestEveryOption(t *testing.T) {
	for _, s := range []sort{tcp4, tcp6, mptcp4, mptcp6, udp4, udp6} {
		for _, listens := range []bool{false, true} {
			if listens && s.protocol == unix.IPPROTO_UDP {
				continue
			}
			t.Run(fmt.Sprint(s, listens), func(t *testing.T) {
				d := s.make(t)
				changed := change(t, s, d.Int())
				if len(changed) < 50 && s.protocol != unix.IPPROTO_MPTCP || len(changed) < 30 {
					t.Errorf("only %d options were changed: %v", len(changed), changed)
				}
				t.Log(len(changed), changed)
				if listens {
					if s.family == unix.AF_INET6 {
						must(t, unix.Bind(d.Int(), &unix.SockaddrInet6{Addr: [16]byte{15: 1}}))
					}
					must(t, unix.Listen(d.Int(), 5))
				}
				same(t, s, d)
			})
		}
	}
}

// change sets options to values that a new socket doesn't have, and returns
// which.
func change(t *testing.T, s sort, n int) (names []string) {
	t.Helper()
	k, err := New().kernel(s)
	must(t, err)
	for i, o := range k.Table {
		switch o.Name {
		case "SO_LOCK_FILTER", "TCP_FASTOPEN_CONNECT", "UDP_CORK", "UDP_ENCAP", "IP_BIND_ADDRESS_NO_PORT":
			continue // change what others do
		}
		if !k.Fresh[i].OK {
			continue
		}
		for _, v := range candidates(o, k.Fresh[i]) {
			want := slicesOf(k, i, v)
			if k.Set(n, want, socket.Early, socket.Last) != nil {
				continue
			}
			got := make([]socket.Value, len(k.Table))
			must(t, k.Read(n, got))
			if got[i] != k.Fresh[i] {
				names = append(names, o.Name)
				break
			}
		}
	}
	return names
}

func slicesOf(k *socket.Kernel, i int, v socket.Value) []socket.Value {
	out := make([]socket.Value, len(k.Table))
	out[i] = v
	return out
}

func candidates(o socket.Option, fresh socket.Value) []socket.Value {
	switch o.Name {
	case "TCP_CONGESTION":
		return []socket.Value{{Lo: 0x6f6e6572, OK: true}, {Lo: 0x6369627563, OK: true}} // "reno", "cubic"
	case "IP_LOCAL_PORT_RANGE":
		return []socket.Value{socket.Uint(50000<<16 | 40000)}
	case "IP_UNICAST_IF":
		return []socket.Value{socket.Uint(1 << 24)}
	case "IP_MULTICAST_IF":
		return []socket.Value{socket.Uint(0x0100007f)}
	case "SO_RCVTIMEO", "SO_SNDTIMEO":
		return []socket.Value{{Lo: 5, OK: true}}
	case "SO_LINGER":
		return []socket.Value{{Lo: 1 | 7<<32, OK: true}}
	}
	out := []socket.Value{socket.Uint(uint32(fresh.Lo) ^ 1)}
	for _, v := range []uint32{2, 3, 7, 16, 100, 1000, 4096, 65536, 200000} {
		out = append(out, socket.Uint(v))
	}
	return out
}

func TestReusedPort(t *testing.T) {
	var fds []*fd.FD
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	for range 3 {
		d := tcp4.make(t)
		must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		must(t, unix.Bind(d.Int(), sa))
		sa, _ = unix.Getsockname(d.Int())
		must(t, unix.Listen(d.Int(), 5))
		fds = append(fds, d)
	}
	same(t, tcp4, fds...)
}

func TestBoundBesideListener(t *testing.T) {
	a, b := tcp4.make(t), tcp4.make(t)
	for _, d := range []*fd.FD{a, b} {
		must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	}
	must(t, unix.Bind(a.Int(), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	sa, err := unix.Getsockname(a.Int())
	must(t, err)
	must(t, unix.Bind(b.Int(), sa))
	must(t, unix.Listen(a.Int(), 5))
	same(t, tcp4, a, b)
}

func TestConnectsAfterwards(t *testing.T) {
	d := tcp6.bound(t, "::")
	must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	must(t, unix.Listen(d.Int(), 5))
	n := same(t, tcp6, d)[0]
	sa, err := unix.Getsockname(n)
	must(t, err)
	c := tcp4.make(t)
	must(t, unix.Connect(c.Int(), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: sa.(*unix.SockaddrInet6).Port}))
	a, _, err := unix.Accept4(n, unix.SOCK_CLOEXEC)
	accepted := own(t, a, err)
	if v, err := unix.GetsockoptInt(accepted.Int(), unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || v != 1 {
		t.Errorf("TCP_NODELAY of what was accepted: %d, %v", v, err)
	}
}

func TestSkipInFlight(t *testing.T) {
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 5))
	client(t, tcp4, d.Int())
	o := &options.Dump{}
	o.SkipInFlight = true
	if _, err := dumped(t, o, d.Int()); err != nil {
		t.Error(err)
	}
}

func TestPortTaken(t *testing.T) {
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(t, unix.Listen(d.Int(), 5))
	in, err := dumped(t, &options.Dump{}, d.Int())
	must(t, err)
	nodes, err := planned(in)
	must(t, err)
	_, err = nodes[0].Create(context.Background(), &plan.Env{Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "another socket has this port") {
		t.Errorf("error %v", err)
	}
}

// filesOf returns the entries of open files.
func filesOf(all []plan.Entry) (out []*fdinfo.FileEntry) {
	for _, e := range all {
		out = append(out, e.Message.(*fdinfo.FileEntry))
	}
	return out
}
