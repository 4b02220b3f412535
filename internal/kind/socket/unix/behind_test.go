package unix

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/options"
)

// A socket comes behind a peer that has another one, or none.
func TestBehind(t *testing.T) {
	s := &sockets{t: t}
	client := s.socket(sys.SOCK_DGRAM)
	server := s.bound(sys.SOCK_DGRAM, "\x00glis-behind")
	s.connect(client, "\x00glis-behind")
	a, b := s.pair(sys.SOCK_STREAM)
	waits := s.socket(sys.SOCK_STREAM)
	listener := s.listener(sys.SOCK_STREAM, "\x00glis-behind-door")
	s.connect(waits, "\x00glis-behind-door")
	tree := scanned(t, client, server, a, b, waits, listener)
	k := New()
	env := &kind.DumpEnv{Log: slog.New(slog.DiscardHandler), Options: &options.Dump{}, Tree: tree, Images: images{}, Files: &received{t: t, tree: tree}}
	for i, want := range []int{1, -1, -1, -1, 5, -1} {
		got, err := k.Behind(env, tree.Files[i])
		s.must(err)
		if want < 0 && got != nil || want >= 0 && got != tree.Files[want] {
			t.Errorf("socket %d comes behind %v", i, got)
		}
	}
}

// Of a pair one can't be told to be a unix socket: that is why the dump fails, also for the
// other one, whose peer isn't said to be outside of the tree.
func TestPeerNotTold(t *testing.T) {
	s := &sockets{t: t}
	a, b := s.pair(sys.SOCK_STREAM)
	tree := scanned(t, a, b)
	tree.Files[1].NoFamily = sys.EIO
	k := New()
	env := &kind.DumpEnv{Log: slog.New(slog.DiscardHandler), Options: &options.Dump{}, Tree: tree, Images: images{}, Files: &received{t: t, tree: tree}}
	for range 2 {
		if _, err := k.Dump(context.Background(), env, tree.Files[0]); !errors.Is(err, sys.EIO) {
			t.Errorf("it fails with %v", err)
		}
	}
}
