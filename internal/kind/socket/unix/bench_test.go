package unix

import (
	"context"
	"log/slog"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/options"
)

// BenchmarkDump is the frozen time of one socket among many.
func BenchmarkDump(b *testing.B) {
	s := &sockets{t: b}
	for range many {
		s.pair(sys.SOCK_STREAM)
	}
	tree := scanned(b, s.fds...)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		env := &kind.DumpEnv{Log: slog.New(slog.DiscardHandler), Options: &options.Dump{}, Tree: tree, Images: nowhere{}}
		k := New()
		for _, f := range tree.Files {
			if !k.Match(f) {
				b.Fatal("no match")
			}
			if _, err := k.Dump(context.Background(), env, f); err != nil {
				b.Fatal(err)
			}
			done++
		}
	}
}
