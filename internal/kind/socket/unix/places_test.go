package unix

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
)

// Where urgent data was that is read a read(2) ends, wherever it was: at every
// place that one does natively. '!' is urgent data that is read, '?' such that
// is not, '<' the reading of a byte.
func TestUrgentPlaces(t *testing.T) {
	shared, _ := memory(t)
	for _, made := range []string{
		"abc!def", "!abc", "abc!", "abc!def!ghi", "!abc!def", "abc!def!", "abc!def?ghi", "abc<!def!ghi", "!abc?def", "abc!def?",
		strings.Repeat("x", 9000) + "!" + strings.Repeat("y", 90000) + "!", "a!b!c!d!e!f",
	} {
		for _, inline := range []int{0, 1} {
			s := &sockets{t: t}
			a, b := s.pair(sys.SOCK_STREAM)
			s.set(b, sys.SO_OOBINLINE, inline)
			s.makePlaces(a, b, made)
			k := New()
			k.UseMemory(shared)
			images, err := dumpWith(t, k, scanned(t, s.fds...))
			if err != nil {
				t.Fatal(err)
			}
			again, err := restored(t, images)
			if err != nil {
				t.Fatal(err)
			}
			want, got := s.pieces(a, b), s.pieces(again[0], again[1])
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%.30q, inline %d: reads (- native, + restored):\n%s", made, inline, d)
			}
		}
	}
}

// makePlaces sends what made says to b.
func (s *sockets) makePlaces(a, b int, made string) {
	s.t.Helper()
	var buf [1]byte
	for len(made) > 0 {
		n := strings.IndexAny(made, "!?<")
		switch {
		case n < 0:
			n = len(made)
			fallthrough
		case n > 0:
			s.send(a, made[:n])
			made = made[n:]
			continue
		case made[0] == '<':
			_, err := sys.Read(b, buf[:])
			s.must(err)
		default:
			s.must(sys.Sendmsg(a, []byte("X"), nil, nil, sys.MSG_OOB))
			if v, err := sys.GetsockoptInt(b, sys.SOL_SOCKET, sys.SO_OOBINLINE); made[0] == '!' {
				s.must(err)
				s.set(b, sys.SO_OOBINLINE, 0)
				_, _, err = sys.Recvfrom(b, buf[:], sys.MSG_OOB)
				s.must(err)
				s.set(b, sys.SO_OOBINLINE, v)
			}
		}
		made = made[1:]
	}
}

// pieces reads urgent data, sends more, and returns what comes in one read each.
func (s *sockets) pieces(a, b int) (out []int) {
	s.t.Helper()
	buf := make([]byte, 1<<18)
	if n, _, err := sys.Recvfrom(b, buf, sys.MSG_OOB|sys.MSG_DONTWAIT); err == nil {
		out = append(out, -n)
	}
	s.send(a, "more")
	for {
		n, _, err := sys.Recvfrom(b, buf, sys.MSG_DONTWAIT)
		if err == sys.EAGAIN {
			return out
		}
		s.must(err)
		out = append(out, n)
	}
}

// A place stays where it is when the stream is shut down or the peer is closed, and
// sockatmark(3) tells of it, also if nothing else is left.
func TestPlacesAtTheEnd(t *testing.T) {
	shared, _ := memory(t)
	ends := map[string]func(s *sockets, a, b int){
		"shut":     func(s *sockets, a, b int) { s.must(sys.Shutdown(b, sys.SHUT_RD)) },
		"shut off": func(s *sockets, a, b int) { s.must(sys.Shutdown(a, sys.SHUT_RDWR)) },
		"closed":   func(s *sockets, a, b int) { s.close(a) },
		"reset":    func(s *sockets, a, b int) { s.send(b, "unread"); s.close(a) },
	}
	for end, do := range ends {
		for _, made := range []string{"!", "abc!", "abc<<<!", "abc!def!", "?", "!abc?"} {
			s := &sockets{t: t}
			a, b := s.pair(sys.SOCK_STREAM)
			s.makePlaces(a, b, made)
			do(s, a, b)
			k := New()
			k.UseMemory(shared)
			images, err := dumpWith(t, k, scanned(t, s.fds...))
			if err != nil {
				t.Fatal(err)
			}
			again, err := restored(t, images)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(s.marks(b), s.marks(again[len(again)-1])); d != "" {
				t.Errorf("%s, %s: reads (- native, + restored):\n%s", made, end, d)
			}
		}
	}
}

// Where SIOCATMARK doesn't show a place, memory does, and if that can't be read poll(2) does
// as long as the stream goes on.
func TestPlacesShown(t *testing.T) {
	shared, _ := memory(t)
	for _, tt := range []struct {
		made         string
		closed       bool
		want, hidden int
	}{{"!", false, 1, 1}, {"abc<<<!", false, 1, 1}, {"!", true, 1, 0}, {"", true, 0, 0}} {
		for _, m := range []*kmem.Shared{shared, nil} {
			s := &sockets{t: t}
			a, b := s.pair(sys.SOCK_STREAM)
			s.makePlaces(a, b, tt.made)
			if tt.closed {
				s.close(a)
			}
			k := New()
			k.UseMemory(m)
			want := tt.want
			if m == nil {
				want = tt.hidden
			}
			n, err := k.placesShown(&look{fd: fd.New(b)})
			if err != nil || n != want {
				t.Errorf("%q, closed %v, memory %v: %d places are left, want %d (%v)", tt.made, tt.closed, m != nil, n, want, err)
			}
		}
	}
}

// marks reads byte by byte, and returns what there was, and '|' for each mark.
func (s *sockets) marks(fd int) (out string) {
	s.t.Helper()
	var b [1]byte
	for {
		mark, err := atMark(fd)
		s.must(err)
		if mark {
			out += "|"
		}
		switch n, _, err := sys.Recvfrom(fd, b[:], sys.MSG_DONTWAIT); {
		case err != nil:
			return out + err.Error()
		case n == 0:
			return out + "end"
		}
		out += string(b[:])
	}
}
