package unix

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// link connects a socket to a name.
func (s *sockets) connect(n int, name string) int {
	s.t.Helper()
	s.must(linux.Connect(n, (&address{name: []byte(name)}).sockaddr()))
	return n
}

func (s *sockets) client(typ int, name string) int { return s.connect(s.socket(typ), name) }

func (s *sockets) accept(l int) int {
	s.t.Helper()
	n, _, err := sys.Accept4(l, sys.SOCK_CLOEXEC)
	s.must(err)
	return s.own(n)
}

func (s *sockets) listener(typ int, name string) int {
	n := s.bound(typ, name)
	s.must(sys.Listen(n, 9))
	return n
}

// connected are sockets in states whose names are taken while they are there:
// they are restored when the old ones are closed.
var connected = []struct {
	name string
	make func(s *sockets, dir string)
}{
	{"an empty message of who was made with it, connected to another since", func(s *sockets, _ string) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.must(disconnect(a)) // b stays connected to it
		s.send(b, "")
		_, _, err := sys.Recvfrom(a, make([]byte, 9), sys.MSG_PEEK)
		s.must(err)
		s.bound(sys.SOCK_DGRAM, "\x00glis-another")
		s.must(sys.Connect(a, &sys.SockaddrUnix{Name: "@glis-another"}))
	}},
	{"a message that was peeked at, of who was made with it and is closed, connected to another since", func(s *sockets, _ string) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.must(disconnect(a))
		s.send(b, "")
		_, _, err := sys.Recvfrom(a, make([]byte, 9), sys.MSG_PEEK)
		s.must(err)
		s.close(b)
		s.bound(sys.SOCK_DGRAM, "\x00glis-another")
		s.must(sys.Connect(a, &sys.SockaddrUnix{Name: "@glis-another"}))
	}},
	{"left by two that are closed and had the same name", func(s *sockets, _ string) {
		for range 2 { // one after the other
			a, b := s.pair(sys.SOCK_DGRAM)
			s.must(linux.Bind(b, (&address{name: []byte("\x00glis-twice")}).sockaddr()))
			s.send(b, "from b")
			s.close(b)
			_ = a
		}
	}},
	{"left by its peer, with a message", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.send(a, "before")
		s.must(disconnect(a))
		s.fds = []int{b, a}
	}},
	{"left by its peer, with a message to who left", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.must(disconnect(a))
		s.send(b, "x")
	}},
	{"left by one that is closed", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.must(disconnect(a))
		s.send(b, "x", "y")
		s.close(b)
	}},
	{"path", func(s *sockets, dir string) {
		l := s.listener(sys.SOCK_STREAM, "s")
		s.send(s.client(sys.SOCK_STREAM, "s"), "hello")
		s.send(s.accept(l), "back")
	}},
	{"abstract, listener closed", func(s *sockets, dir string) {
		l := s.listener(sys.SOCK_STREAM, "\x00"+dir)
		s.send(s.connect(s.bound(sys.SOCK_STREAM, dir+"/client"), "\x00"+dir), "hello")
		s.accept(l)
		s.close(l)
	}},
	{"never accepted, listener closed", func(s *sockets, dir string) {
		l := s.listener(sys.SOCK_STREAM, "\x00"+dir)
		s.client(sys.SOCK_STREAM, "\x00"+dir)
		s.close(l)
	}},
	{"urgent byte at the end", func(s *sockets, dir string) {
		a, _ := s.pair(sys.SOCK_STREAM)
		s.send(a, "abc")
		s.must(sys.Sendto(a, []byte("X"), sys.MSG_OOB, nil))
	}},
	{"urgent byte at the start, in line", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.set(b, sys.SO_OOBINLINE, 1)
		s.must(sys.Sendto(a, []byte("X"), sys.MSG_OOB, nil))
		s.send(a, "abc")
	}},
	{"urgent byte at the start", func(s *sockets, dir string) {
		a, _ := s.pair(sys.SOCK_STREAM)
		s.must(sys.Sendto(a, []byte("X"), sys.MSG_OOB, nil))
		s.send(a, "abc")
	}},
	{"urgent byte in the middle", func(s *sockets, dir string) {
		a, _ := s.pair(sys.SOCK_STREAM)
		s.send(a, "abc")
		s.must(sys.Sendto(a, []byte("X"), sys.MSG_OOB, nil))
		s.send(a, "def")
	}},
	{"urgent byte in the middle, in line", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.set(b, sys.SO_OOBINLINE, 1)
		s.send(a, "abc")
		s.must(sys.Sendto(a, []byte("X"), sys.MSG_OOB, nil))
		s.send(a, "def")
	}},
	{"urgent byte in the middle, read", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "abc")
		s.must(sys.Sendto(a, []byte("X"), sys.MSG_OOB, nil))
		s.send(a, "def")
		_, _, err := sys.Recvfrom(b, make([]byte, 1), sys.MSG_OOB)
		s.must(err)
	}},
	{"two urgent bytes", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "abc")
		s.must(sys.Sendto(a, []byte("X"), sys.MSG_OOB, nil))
		s.must(sys.Sendto(a, []byte("uvY"), sys.MSG_OOB, nil))
		// Together, as they come back.
		_, _, err := sys.Recvfrom(b, make([]byte, 2), 0)
		s.must(err)
	}},
	{"descriptors", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "plain")
		s.must(sys.Sendmsg(a, []byte("with"), sys.UnixRights(b, a), nil, 0))
		s.send(a, "behind", "it")
		s.must(sys.Sendmsg(a, []byte("w"), sys.UnixRights(b), nil, 0))
		s.must(sys.Sendmsg(a, []byte("last"), sys.UnixRights(a), nil, 0))
		s.must(sys.Sendmsg(b, []byte("other way"), sys.UnixRights(a), nil, 0))
	}},
	{"descriptors in messages", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_SEQPACKET)
		s.must(sys.Sendmsg(a, []byte("x"), sys.UnixRights(b), nil, 0))
		s.must(sys.Sendmsg(a, nil, sys.UnixRights(a, b), nil, 0))
	}},
	{"the most descriptors", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_DGRAM)
		all := make([]int, 253)
		for i := range all {
			all[i] = []int{a, b}[i%2]
		}
		s.must(sys.Sendmsg(a, []byte("x"), sys.UnixRights(all...), nil, 0))
	}},
	{"in its own queue only", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_STREAM)
		c, d := s.pair(sys.SOCK_STREAM)
		s.send(c, "nested")
		s.must(sys.Sendmsg(a, []byte("x"), sys.UnixRights(d), nil, 0))
		s.must(sys.Sendmsg(d, []byte("x"), sys.UnixRights(d, c), nil, 0))
		s.must(sys.Sendmsg(b, []byte("x"), sys.UnixRights(c), nil, 0))
	}},
	{"credentials", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "before")
		s.set(b, sys.SO_PASSCRED, 1)
		s.send(a, "x")
		s.must(sys.Sendmsg(a, []byte("as another"), sys.UnixCredentials(&sys.Ucred{Pid: 1, Uid: 77, Gid: 88}), nil, 0))
		s.set(b, sys.SO_PASSCRED, 0)
		s.send(a, "after")
	}},
	{"credentials of messages", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.set(b, sys.SO_PASSCRED, 1)
		s.send(a, "x", "")
		s.must(sys.Sendmsg(a, []byte("as another"), sys.UnixCredentials(&sys.Ucred{Pid: 1, Uid: 77, Gid: 88}), nil, 0))
		_ = sys.SetsockoptInt(b, sys.SOL_SOCKET, sys.SO_PASSPIDFD, 1)
		s.set(b, sys.SO_TIMESTAMP, 1)
	}},
	{"counts", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_STREAM)
		s.send(a, "counted")
		_ = sys.SetsockoptInt(b, sys.SOL_SOCKET, soInq, 1)
	}},
	{"full, of long pieces", func(s *sockets, dir string) {
		a, _ := s.pair(sys.SOCK_STREAM | sys.SOCK_NONBLOCK)
		for sys.Sendmsg(a, make([]byte, 1000), nil, nil, 0) == nil {
		}
	}},
	{"longer than the receiver's buffer", func(s *sockets, dir string) {
		a, b := s.pair(sys.SOCK_DGRAM)
		s.set(b, sys.SO_SNDBUF, 5000)
		s.send(a, strings.Repeat("x", 150000))
	}},
}

// whole is all that can be seen of a socket, and by using it up.
type whole struct {
	Seen  seen
	Own   string
	Peer  string
	Cred  sys.Ucred
	Mark  int
	Out   int
	Parts []string
}

func lookWhole(t testing.TB, n int) whole {
	t.Helper()
	w := whole{Seen: look1(t, n)}
	own, err := ownName(n)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := peerName(n)
	if err != nil {
		t.Fatal(err)
	}
	w.Own, w.Peer = string(own), string(peer)
	who, err := sys.GetsockoptUcred(n, sys.SOL_SOCKET, sys.SO_PEERCRED)
	if err != nil {
		t.Fatal(err)
	}
	w.Cred = *who
	if events, err := poll(n, sys.POLLOUT); err != nil || events&sys.POLLOUT == 0 {
		w.Out, _ = sys.IoctlGetInt(n, sys.TIOCOUTQ) // it decides when a writer may go on
	}
	w.Mark, _ = sys.IoctlGetInt(n, sys.SIOCATMARK)
	return w
}

// parts reads all that is queued, message by message, with what comes along.
func parts(t testing.TB, n int) (out []string) {
	t.Helper()
	buf, room, name := make([]byte, 1<<20), make([]byte, 4096), make([]byte, 200)
	for len(out) < 100 {
		r, err := linux.Recvmsg(n, buf, room, name, sys.MSG_DONTWAIT|sys.MSG_CMSG_CLOEXEC)
		if err != nil {
			return append(out, err.Error())
		}
		s := string(buf[:r.N]) + "|" + string(cutName(name, r.Name))
		all, err := sys.ParseSocketControlMessage(room[:r.Control])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			switch m.Header.Type {
			case sys.SCM_RIGHTS:
				fds, err := sys.ParseUnixRights(&m)
				if err != nil {
					t.Fatal(err)
				}
				s += "|" + strings.Repeat("F", len(fds))
				for _, d := range fds {
					sys.Close(d)
				}
			case sys.SCM_CREDENTIALS:
				s += "|" + string(m.Data)
			case soInq:
				s += "|inq" + string(m.Data)
			case scmPidfd:
				s += "|pidfd"
			default:
				s += "|other"
			}
		}
		out = append(out, s)
	}
	return out
}

// Where the kernel's memory can't be read, an empty message that was peeked at, of who was
// made with a socket, is not lost without a word; and who only sends is dumped.
func TestHiddenOfFormerPeer(t *testing.T) {
	t.Setenv(bpf.Off, "1")
	t.Chdir(t.TempDir())
	for _, st := range connected[:2] {
		s := &sockets{t: t}
		st.make(s, ".")
		if _, err := dumpTree(t, scanned(t, s.fds...)); err == nil || !strings.Contains(err.Error(), "empty messages") {
			t.Errorf("%s: got %v", st.name, err)
		}
		closeEach(t, s.fds)
	}
	s := &sockets{t: t}
	s.bound(sys.SOCK_DGRAM, "\x00glis-hears")
	s.must(sys.Shutdown(s.client(sys.SOCK_DGRAM, "\x00glis-hears"), sys.SHUT_RD))
	if _, err := dumpTree(t, scanned(t, s.fds...)); err != nil {
		t.Error(err)
	}
	closeEach(t, s.fds)
}

func TestConnected(t *testing.T) {
	for _, st := range connected {
		t.Run(st.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			s := &sockets{t: t}
			st.make(s, ".")
			want := lookEach(t, s.fds)
			for range 3 {
				in, err := dumpTree(t, scanned(t, s.fds...))
				s.must(err)
				if d := cmp.Diff(want, lookEach(t, s.fds)); d != "" {
					t.Fatalf("the dump changed it: %s", d)
				}
				n := len(s.fds)
				closeEach(t, s.fds)
				fds, err := restored(t, in)
				s.must(err)
				fds = fds[:n]
				if d := cmp.Diff(want, lookEach(t, fds)); d != "" {
					t.Fatalf("it looks different: %s", d)
				}
				s.fds = append([]int(nil), fds...)
			}
			// Against the same, never dumped.
			for _, o := range s.fds {
				want[0].Parts = append(want[0].Parts, parts(t, o)...)
			}
			closeEach(t, s.fds)
			fresh := &sockets{t: t}
			s.must(errors.Join(os.RemoveAll("s"), os.RemoveAll("client")))
			st.make(fresh, ".")
			var all []string
			for _, o := range fresh.fds {
				all = append(all, parts(t, o)...)
			}
			if d := cmp.Diff(all, want[0].Parts); d != "" {
				t.Errorf("reading gives something else (- never dumped): %s", short(d))
			}
		})
	}
}

func lookEach(t testing.TB, fds []int) (out []whole) {
	t.Helper()
	for _, n := range fds {
		out = append(out, lookWhole(t, n))
	}
	return out
}

func closeEach(t testing.TB, fds []int) {
	for _, n := range fds {
		(&sockets{t: t}).close(n)
	}
}
