package unix

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
)

// states are sockets in every state that can be carried over.
var states = []struct {
	name string
	make func(s *sockets)
}{
	{"fresh pair", func(s *sockets) { s.pair(sys.SOCK_STREAM) }},
	{"unconnected", func(s *sockets) {
		for _, typ := range []int{sys.SOCK_STREAM, sys.SOCK_DGRAM, sys.SOCK_SEQPACKET} {
			n, err := sys.Socket(sys.AF_UNIX, typ|sys.SOCK_CLOEXEC, 0)
			s.must(err)
			s.own(n)
		}
	}},
	{"unconnected, shut down", func(s *sockets) {
		n, err := sys.Socket(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
		s.must(err)
		s.must(sys.Shutdown(s.own(n), sys.SHUT_WR))
	}},
	{"bytes both ways", func(s *sockets) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "hello", " ", "world")
		s.send(b, "back")
	}},
	{"nonblocking", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
		_, err := sys.FcntlInt(uintptr(a), sys.F_SETOWN, os.Getpid())
		s.must(err)
		_, err = sys.FcntlInt(uintptr(a), 10, int(sys.SIGURG)) // F_SETSIG
		s.must(err)
	}},
	{"writer shut down", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_STREAM)
		s.send(a, "last words")
		s.must(sys.Shutdown(a, sys.SHUT_WR))
	}},
	{"reader shut down", func(s *sockets) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(b, "unread")
		s.must(sys.Shutdown(a, sys.SHUT_RD))
	}},
	{"both shut down", func(s *sockets) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "there")
		s.send(b, "here")
		s.must(sys.Shutdown(a, sys.SHUT_RDWR))
	}},
	{"peer closed", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_STREAM)
		s.close(a)
	}},
	{"peer closed, bytes left", func(s *sockets) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "left behind")
		s.set(b, sys.SO_RCVLOWAT, 3)
		s.close(a)
	}},
	{"peer closed with unread bytes", func(s *sockets) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "left behind")
		s.send(b, "never read")
		s.close(a)
	}},
	{"messages", func(s *sockets) {
		for _, typ := range []int{sys.SOCK_SEQPACKET, sys.SOCK_DGRAM} {
			a, b := s.pair(typ)
			s.send(a, "", "a", "", "", "ccc", strings.Repeat("x", 100_000), "")
			s.send(b, "back")
		}
	}},
	{"only empty messages", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_DGRAM)
		s.send(a, "", "", "")
	}},
	{"seqpacket shut down", func(s *sockets) {
		a, b := s.pair(sys.SOCK_SEQPACKET)
		s.send(a, "", "a", "", "")
		s.send(b, "")
		s.must(sys.Shutdown(a, sys.SHUT_WR))
	}},
	{"seqpacket, peer closed", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_SEQPACKET)
		s.send(a, "a", "", "bb", "", "")
		s.close(a)
	}},
	{"datagram shut down", func(s *sockets) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.send(a, "a", "")
		s.must(sys.Shutdown(b, sys.SHUT_RD))
	}},
	{"datagram, peer closed", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_DGRAM)
		s.send(a, "a", "", "bb")
		s.close(a)
	}},
	{"message larger than its sender's buffer now is", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_SEQPACKET)
		s.set(a, sys.SO_SNDBUFFORCE, 4<<20)
		s.send(a, strings.Repeat("y", 3<<20))
		s.set(a, sys.SO_SNDBUF, 10000)
	}},
	{"full queue", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_STREAM)
		for {
			if err := sys.Sendmsg(a, []byte("0123456789abcdef0123456789abcdef"), nil, nil, sys.MSG_DONTWAIT); err == sys.EAGAIN {
				return
			} else {
				s.must(err)
			}
		}
	}},
	{"options", func(s *sockets) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "data")
		for _, n := range []int{a, b} {
			s.set(n, sys.SO_KEEPALIVE, 1)
			s.set(n, sys.SO_RCVLOWAT, 3)
			s.set(n, sys.SO_TIMESTAMPNS_NEW, 1)
			s.set(n, sys.SO_PEEK_OFF, 2)
			s.set(n, sys.SO_RCVBUF, 50000)
			s.set(n, sys.SO_INCOMING_CPU, 0)
		}
		s.must(sys.SetsockoptTimeval(a, sys.SOL_SOCKET, sys.SO_RCVTIMEO, &sys.Timeval{Sec: 3, Usec: 500000}))
		s.must(sys.SetsockoptLinger(b, sys.SOL_SOCKET, sys.SO_LINGER, &sys.Linger{Onoff: 1, Linger: 7}))
	}},
	{"passing options, nothing queued", func(s *sockets) {
		a, _ := s.pair(sys.SOCK_STREAM)
		s.set(a, sys.SO_PASSCRED, 1)
		_ = sys.SetsockoptInt(a, sys.SOL_SOCKET, sys.SO_PASSPIDFD, 1) // Linux 6.5
	}},
	{"filter", func(s *sockets) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.send(a, "before the filter")
		drop := sys.SockFilter{Code: 6}
		s.must(sys.SetsockoptSockFprog(b, sys.SOL_SOCKET, sys.SO_ATTACH_FILTER, &sys.SockFprog{Len: 1, Filter: &drop}))
		s.set(b, sys.SO_LOCK_FILTER, 1)
	}},
	{"empty messages that were peeked at", func(s *sockets) {
		for _, typ := range []int{sys.SOCK_SEQPACKET, sys.SOCK_DGRAM} {
			a, b := s.pair(typ)
			s.send(a, "", "", "abc", "", "def", "")
			_, _, err := sys.Recvfrom(b, make([]byte, 9), sys.MSG_PEEK)
			s.must(err)
		}
	}},
	{"shut down before it connected", func(s *sockets) {
		l := s.bound(sys.SOCK_STREAM, "\x00glis-early")
		s.must(sys.Listen(l, 5))
		c := s.socket(sys.SOCK_STREAM)
		s.must(sys.Shutdown(c, sys.SHUT_WR))
		s.must(sys.Connect(c, &sys.SockaddrUnix{Name: "@glis-early"}))
		n, _, err := sys.Accept(l)
		s.must(err)
		s.own(n)
		s.close(l)
	}},
	{"an error in front of messages", func(s *sockets) {
		a, b := s.pair(sys.SOCK_SEQPACKET)
		s.send(a, "abc", "", "def")
		s.send(b, "unread")
		s.close(a)
	}},
	{"urgent data behind descriptors", func(s *sockets) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "abc")
		s.must(sys.Sendmsg(a, []byte("def"), sys.UnixRights(b), nil, 0))
		s.must(sys.Sendmsg(a, []byte("X"), nil, nil, sys.MSG_OOB))
		s.send(a, "ghi")
		_, err := sys.Read(b, make([]byte, 2))
		s.must(err)
	}},
}

// Every state looks the same after a restore as before, is not changed by the
// dump, and then behaves the same; also when it was restored already.
func TestStates(t *testing.T) {
	for _, st := range states {
		t.Run(st.name, func(t *testing.T) {
			old := &sockets{t: t}
			st.make(old)
			before := lookAll(t, old.fds)
			in, err := dumpTree(t, scanned(t, old.fds...))
			old.must(err)
			if d := cmp.Diff(before, lookAll(t, old.fds)); d != "" {
				t.Errorf("the dump changed it:\n%s", d)
			}
			second, err := restored(t, in)
			old.must(err)
			in, err = dumpTree(t, scanned(t, second...))
			old.must(err)
			third, err := restored(t, in)
			old.must(err)
			compareAll(t, old.fds, before, third)
		})
	}
}

// What the survey spares the reading of is what reading would have told, and
// what was changed for a while is as it was.
func TestSurvey(t *testing.T) {
	for _, st := range states {
		t.Run(st.name, func(t *testing.T) {
			s := &sockets{t: t}
			st.make(s)
			tree := scanned(t, s.fds...)
			slow, err := dumpTree(t, tree)
			s.must(err)
			fast, err := dumpWith(t, surveyed(), tree)
			s.must(err)
			sameImages(t, slow, fast)
			watched, err := dumpWith(t, watching(t, tree), tree)
			if err != nil {
				t.Fatal(err)
			}
			sameImages(t, slow, watched)
			again, err := dumpTree(t, tree)
			if err != nil {
				t.Fatal(err)
			}
			sameImages(t, slow, again)
		})
	}
}

// watching is surveyed, by the look that finds the descriptors of a tree.
func watching(t *testing.T, tree *scan.Tree) *Kind {
	t.Helper()
	r, err := sockmem.OpenTCP()
	testkit.KernelMemory(t, err)
	defer r.Close()
	k := surveyed()
	k.PrepareFor(1, r)
	k.glance.reader = nil // which is closed
	for _, task := range tree.Tasks {
		err := r.Each(task.Pidfd.Int(), func(m sockmem.Socket) error {
			k.SeeSocket(task, m)
			return nil
		})
		if err != nil || len(k.seen.found[task]) == 0 {
			t.Fatalf("%d sockets were seen: %v", len(k.seen.found[task]), err)
		}
	}
	return k
}

func sameImages(t *testing.T, want, got images) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%d image files, want %d", len(got), len(want))
	}
	for row, entries := range want {
		if len(entries) != len(got[row]) {
			t.Fatalf("%v: %d entries, want %d", row, len(got[row]), len(entries))
		}
		for i, e := range entries {
			if d := cmp.Diff(e.Message, got[row][i].Message, cmp.AllowUnexported(proto.Rest{}), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%v: %s", row, d)
			}
			if !bytes.Equal(e.Payload, got[row][i].Payload) {
				t.Errorf("%v, entry %d: other payload", row, i)
			}
		}
	}
}

func lookAll(t *testing.T, fds []int) []seen {
	t.Helper()
	var out []seen
	for _, n := range fds {
		out = append(out, look1(t, n))
	}
	return out
}

func compareAll(t *testing.T, old []int, before []seen, now []int) {
	t.Helper()
	if d := cmp.Diff(before, lookAll(t, now)); d != "" {
		t.Errorf("looks different after the restore:\n%s", d)
	}
	for i := range old {
		typ := before[i].Type
		if d := cmp.Diff(drain(old[i]).join(typ), drain(now[i]).join(typ)); d != "" {
			t.Errorf("socket %d behaves differently after the restore:\n%s", i, short(d))
		}
	}
}

func short(s string) string { return s[:min(len(s), 2000)] }

// The connection of a pair works after a restore, in both directions.
func TestPairIsConnected(t *testing.T) {
	for _, typ := range []int{sys.SOCK_STREAM, sys.SOCK_DGRAM, sys.SOCK_SEQPACKET} {
		s := &sockets{t: t}
		s.pair(typ)
		in, err := dumpTree(t, scanned(t, s.fds...))
		if err != nil {
			t.Fatal(err)
		}
		fds, err := restored(t, in)
		if err != nil {
			t.Fatal(err)
		}
		s.send(fds[0], "to b")
		s.send(fds[1], "to a")
		if a, b := drain(fds[0]), drain(fds[1]); !cmp.Equal(a.Messages, []string{"to a"}) || len(b.Messages) == 0 || b.Messages[0][:4] != "to b" {
			t.Errorf("type %d: a got %q, b got %q", typ, a.Messages, b.Messages)
		}
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name, want string
		make       func(s *sockets)
	}{
		{"in flight", "hasn't accepted", func(s *sockets) {
			listenAndConnect(s)
			s.fds = s.fds[1:]
		}},
		{"in flight, shut down", "hasn't accepted", func(s *sockets) {
			listenAndConnect(s)
			s.fds = s.fds[1:]
			s.must(sys.Shutdown(s.fds[0], sys.SHUT_RDWR))
		}},
		{"peer outside", "outside", func(s *sockets) {
			s.pair(sys.SOCK_STREAM)
			s.fds = s.fds[:1]
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &sockets{t: t}
			tt.make(s)
			_, err := dumpTree(t, scanned(t, s.fds...))
			if !refused(err) {
				t.Fatalf("not refused: %v", err)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "descriptor") || !strings.Contains(err.Error(), "AF_UNIX SOCK_") {
				t.Errorf("the message %q doesn't say %q, or not where", err, tt.want)
			}
		})
	}
}

// listenAndConnect returns a listener whose client is the second socket.
func listenAndConnect(s *sockets) int {
	l, err := sys.Socket(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
	s.must(err)
	sa := &sys.SockaddrUnix{Name: "@glis-test-" + s.t.Name()}
	s.must(sys.Bind(s.own(l), sa))
	s.must(sys.Listen(l, 5))
	c, err := sys.Socket(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
	s.must(err)
	s.must(sys.Connect(s.own(c), sa))
	return l
}

// An interrupted or refused dump leaves SO_PEEK_OFF and SO_PASSCRED alone.
func TestRefusedLeavesNoTrace(t *testing.T) {
	s := &sockets{t: t}
	a, b := s.pair(sys.SOCK_SEQPACKET)
	s.send(a, "", "one", "")
	s.must(sys.Shutdown(a, sys.SHUT_WR))
	before := lookAll(t, s.fds)
	if _, err := dumpTree(t, scanned(t, b)); !refused(err) {
		t.Fatalf("not refused: %v", err)
	}
	if d := cmp.Diff(before, lookAll(t, s.fds)); d != "" {
		t.Error(d)
	}
}

// Many sockets are asked for in one request.
func TestMany(t *testing.T) {
	s := &sockets{t: t}
	for range 3 * single {
		s.pair(sys.SOCK_STREAM)
	}
	in, err := dumpTree(t, scanned(t, s.fds...))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(in[image.Files]); n != len(s.fds) {
		t.Errorf("%d entries for %d sockets", n, len(s.fds))
	}
	if e := extras(in); len(e) != 0 {
		t.Errorf("%d sockets have options that differ from a new one's", len(e))
	}
	first := in[image.Files][0].Message.(*fdinfo.FileEntry).GetUsk()
	if first.GetPeer() != in[image.Files][1].Message.(*fdinfo.FileEntry).GetUsk().GetIno() {
		t.Error("the first socket isn't connected to the second")
	}
}
