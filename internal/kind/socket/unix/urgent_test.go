package unix

import (
	"os"
	"testing"

	sys "golang.org/x/sys/unix"
)

// Who sent an urgent byte is told to who reads it in line, wherever it is.
func TestUrgentCredentials(t *testing.T) {
	for name, read := range map[string]int{"in front": 2, "behind": 1} {
		for _, inline := range []int{0, 1} {
			s := &sockets{t: t}
			a, b := s.pair(sys.SOCK_STREAM)
			for _, opt := range []int{sys.SO_PASSCRED, sys.SO_OOBINLINE} {
				v := 1
				if opt == sys.SO_OOBINLINE {
					v = inline
				}
				if err := sys.SetsockoptInt(a, sys.SOL_SOCKET, opt, v); err != nil {
					t.Fatal(err)
				}
			}
			var buf [10]byte
			if err := sys.Sendmsg(b, []byte("abX"), nil, nil, sys.MSG_OOB); err != nil {
				t.Fatal(err)
			}
			if n, err := sys.Read(a, buf[:read]); err != nil || n != read {
				t.Fatal(n, err)
			}
			images, err := dumpTree(t, scanned(t, s.fds...))
			if err != nil {
				t.Fatal(err)
			}
			again, err := restored(t, images)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{a, again[0]} {
				if v, err := sys.GetsockoptInt(n, sys.SOL_SOCKET, sys.SO_OOBINLINE); err != nil || v != inline {
					t.Errorf("%s: SO_OOBINLINE is %d, want %d (%v)", name, v, inline, err)
				}
				if err := sys.SetsockoptInt(n, sys.SOL_SOCKET, sys.SO_OOBINLINE, 1); err != nil {
					t.Fatal(err)
				}
				for i := read; i < 3; i++ {
					who := sender1(t, n)
					if who != int32(os.Getpid()) {
						t.Errorf("%s, inline %d: byte %d was sent by %d, want %d", name, inline, i, who, os.Getpid())
					}
				}
			}
		}
	}
}

// sender1 reads a byte and returns who sent it.
func sender1(t *testing.T, fd int) int32 {
	t.Helper()
	var buf [1]byte
	var control [100]byte
	n, controls, _, _, err := sys.Recvmsg(fd, buf[:], control[:], sys.MSG_DONTWAIT)
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	all, err := sys.ParseSocketControlMessage(control[:controls])
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	who, err := sys.ParseUnixCredentials(&all[0])
	if err != nil {
		t.Fatal(err)
	}
	return who.Pid
}

// A stream whose peer has closed with something unread, so that an error waits to
// be reported, and that counts urgent data which was stepped over: a look behind the
// end would take the error away.
func TestErrorBehind(t *testing.T) {
	shared, _ := memory(t)
	for _, rest := range []string{"", "rest"} {
		s := &sockets{t: t}
		a, b := s.pair(sys.SOCK_STREAM)
		s.must(sys.Sendto(b, []byte("X"), sys.MSG_OOB, nil))
		if _, _, err := sys.Recvfrom(a, make([]byte, 1), sys.MSG_DONTWAIT); err != sys.EAGAIN {
			t.Fatalf("step over urgent data: %v", err)
		}
		s.send(a, "unread")
		if rest != "" {
			s.send(b, rest)
		}
		s.close(b)
		k := New()
		k.UseMemory(shared)
		images, err := dumpWith(t, k, scanned(t, a))
		if err != nil {
			t.Fatal(err)
		}
		again, err := restored(t, images)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{a, again[0]} {
			buf := make([]byte, 10)
			if rest != "" {
				if got, _, err := sys.Recvfrom(n, buf, sys.MSG_DONTWAIT); err != nil || string(buf[:got]) != rest {
					t.Errorf("got %q, %v", buf[:max(got, 0)], err)
				}
			}
			if _, _, err := sys.Recvfrom(n, buf, sys.MSG_DONTWAIT); err != sys.ECONNRESET {
				t.Errorf("%q is before the error: got %v", rest, err)
			}
		}
	}
}
