package unix

import (
	"context"
	"log/slog"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

const soBusyPollBudget = 70

// memory shows the kernel's memory, or skips.
func memory(t testing.TB) (*kmem.Shared, *kmem.Reader) {
	t.Helper()
	s := kmem.Share(New().KernelNames()...)
	t.Cleanup(func() { s.Close() })
	m, err := s.Reader()
	testkit.KernelMemory(t, err)
	return s, m
}

// insideOf reads what options don't tell of sockets.
func insideOf(t testing.TB, m *kmem.Reader, fds ...int) (all []*extra.SocketEntry) {
	t.Helper()
	for _, n := range fds {
		e := &extra.SocketEntry{}
		if err := readUnseen(m, n, e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// What only the kernel's memory shows comes back, however sockets are looked at.
func TestUnseen(t *testing.T) {
	testkit.RequireRoot(t)
	shared, m := memory(t)
	s := &sockets{t: t}
	a, _ := s.pair(sys.SOCK_STREAM)
	s.pair(sys.SOCK_STREAM)
	d, _ := s.pair(sys.SOCK_DGRAM)
	for _, n := range []int{a, d} {
		if err := sys.SetsockoptInt(n, sys.SOL_SOCKET, soBusyPollBudget, 13); err != nil {
			t.Fatal(err)
		}
	}
	counts := sys.SetsockoptInt(a, sys.SOL_SOCKET, soInq, 1) == nil // Linux 6.17
	want := insideOf(t, m, s.fds...)
	if want[0].GetBusyPollBudget() != 13 || want[0].GetInq() != counts || proto.Size(want[1]) != 0 {
		t.Fatalf("found %v", want)
	}
	reader, err := sockmem.OpenTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	surveyed := surveyed()
	glancing := New()
	glancing.glance.reader = reader
	for name, k := range map[string]*Kind{"one by one": New(), "surveyed": surveyed, "at a glance": glancing} {
		k.UseMemory(shared)
		images, err := dumpWith(t, k, scanned(t, s.fds...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := restored(t, images)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, got := range insideOf(t, m, again...) {
			if !proto.Equal(got, want[i]) {
				t.Errorf("%s: socket %d: got %v, want %v", name, i, got, want[i])
			}
		}
		if k == glancing && len(k.glance.plain) == 0 {
			t.Error("sockets weren't glanced at")
		}
	}
}

// A unix socket takes no IPsec policy, so none can be lost.
func TestNoPolicies(t *testing.T) {
	s := &sockets{t: t}
	a, _ := s.pair(sys.SOCK_STREAM)
	for _, level := range []int{sys.IPPROTO_IP, sys.IPPROTO_IPV6} {
		if err := sys.SetsockoptString(a, level, 17, string(make([]byte, 168))); err != sys.EOPNOTSUPP {
			t.Errorf("level %d: %v", level, err)
		}
	}
}

func TestUnseenNonsense(t *testing.T) {
	s := &sockets{t: t}
	s.pair(sys.SOCK_SEQPACKET)
	images, err := dumpTree(t, scanned(t, s.fds...))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []*extra.SocketEntry{
		{BusyPollBudget: proto.Uint32(1 << 16)},
		{Inq: proto.Bool(true)},
		{Policies: [][]byte{make([]byte, 168)}},
		{Filter: &extra.SocketProgram{Id: proto.Uint32(1)}},
	} {
		e.Id = proto.Uint32(1)
		in := images
		in[extra.Sockets] = nil
		if err := in.Put(extra.Sockets, e, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := restored(t, in); err == nil {
			t.Errorf("%v is taken", e)
		}
	}
}

// BenchmarkGlance is what the look for what no option tells costs, frozen, of
// one socket.
func BenchmarkGlance(b *testing.B) {
	shared, _ := memory(b)
	s := &sockets{t: b}
	for range 100 {
		s.pair(sys.SOCK_STREAM)
	}
	tree := scanned(b, s.fds...)
	reader, err := sockmem.OpenTCP()
	if err != nil {
		b.Fatal(err)
	}
	defer reader.Close()
	for name, r := range map[string]*sockmem.TCPReader{"one by one": nil, "at a glance": reader} {
		b.Run(name, func(b *testing.B) {
			for done := 0; done < b.N; {
				env := &kind.DumpEnv{Log: slog.New(slog.DiscardHandler), Options: &options.Dump{}, Tree: tree, Images: nowhere{}}
				k := New()
				k.UseMemory(shared)
				k.glance.reader = r
				for _, f := range tree.Files {
					if _, err := k.Dump(context.Background(), env, f); err != nil {
						b.Fatal(err)
					}
					done++
				}
			}
		})
	}
}
