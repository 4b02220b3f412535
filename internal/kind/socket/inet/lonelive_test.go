package inet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/options"
)

// lonely tells of sockets by the kernel's memory alone, for all tests: to learn how takes time.
var lonely = sync.OnceValues(func() (*sockmem.Memory, error) { return sockmem.OpenMemory() })

var lonelyKind = sync.OnceValue(New)

// toldAlone compares what a dump tells of an end of a connection with what it would if the end
// was only in a message that nobody can receive. Packets must be held back.
func toldAlone(t testing.TB, o *options.Dump, n int) {
	t.Helper()
	m, err := lonely()
	if errors.Is(err, kmem.ErrUnavailable) {
		return // TestLone says so
	}
	must(t, err)
	for {
		want, got, after := toldOpenly(t, o, n), toldByMemory(t, m, o, n), toldOpenly(t, o, n)
		if !cmp.Equal(want, after, alike...) {
			continue // by a timer
		}
		if diff := cmp.Diff(want, got, alike...); diff != "" {
			t.Errorf("what is told of it if nobody has it is something else: %s", diff)
		}
		return
	}
}

var alike = []cmp.Option{cmp.Exporter(func(reflect.Type) bool { return true }), cmp.Comparer(func(a, b *image.Row) bool { return a == b })}

// toldOpenly is what a dump tells of a socket.
func toldOpenly(t testing.TB, o *options.Dump, n int) images {
	t.Helper()
	in, err := dumped(t, o, n)
	must(t, err)
	timeless(in)
	return in
}

// toldByMemory is what is told by memory.
func toldByMemory(t testing.TB, m *sockmem.Memory, o *options.Dump, n int) images {
	t.Helper()
	at, err := m.File(n)
	must(t, err)
	x, err := m.Lone(at)
	must(t, err)
	k := lonelyKind()
	own, why, err := k.Lone(m, x)
	must(t, err)
	if why != "" {
		t.Fatal(why)
	}
	defer own.Close()
	got := images{}
	env, f := environment(t, o, got, own.Int())
	var st unix.Stat_t
	must(t, unix.Fstat(n, &st))
	f.Within, f.Stat, f.Flags = &scan.File{Task: f.Task, FD: int32(n)}, scan.StatOf(&st), x.Flags&^unix.O_CLOEXEC
	if !k.Match(f) {
		t.Fatalf("%v: no match", f)
	}
	e, err := k.Dump(context.Background(), env, f)
	must(t, err)
	e.Type, e.Id = k.Type().Enum(), &f.ID
	must(t, got.Put(image.Files, e, nil))
	timeless(got)
	return got
}

// timeless takes away what changes with time, and of data leaves how much it is and its sum.
func timeless(in images) {
	delete(in, of(extra.Addresses)) // is told once for each address
	for _, all := range in {
		for i, e := range all {
			all[i].Payload = fmt.Appendf(nil, "%d bytes of sum %x", len(e.Payload), sha256.Sum256(e.Payload))
			switch m := e.Message.(type) {
			case *tcp_stream.TcpStreamEntry:
				if m.Timestamp != nil {
					m.Timestamp = new(uint32)
				}
			case *extra.SocketEntry:
				if m.Pace != nil {
					m.Pace.Time = nil
				}
			}
		}
	}
}
