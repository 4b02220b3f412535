package unix

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
)

// counted is a kind that counts how often the kernel looks through all sockets for a peer.
func counted() (*Kind, *int) {
	k, n := New(), 0
	k.askPeer = func(own *fd.FD) (uint32, error) {
		n++
		return askPeer(own)
	}
	return k, &n
}

// However many connections are made by an abstract name, it is asked for a peer once for
// each process that connects.
func TestConnectionsByName(t *testing.T) {
	s := &sockets{t: t}
	l := s.listener(sys.SOCK_STREAM, "\x00"+t.Name())
	for range 2 * atOnce {
		s.client(sys.SOCK_STREAM, "\x00"+t.Name())
		s.accept(l)
	}
	in, err := dumpTree(t, scanned(t, s.fds...))
	s.must(err)
	closeEach(t, s.fds)
	k, n := counted()
	fds, err := restoredBy(t, k, in)
	s.must(err)
	if *n != 1 {
		t.Errorf("asked %d times for the peers of %d connections", *n, 2*atOnce)
	}
	for i := 1; i < len(fds); i += 2 { // those that were connected still are
		s.must(sys.Sendto(fds[i], fmt.Append(nil, i), 0, nil))
		var b [9]byte
		if n, err := sys.Read(fds[i+1], b[:]); err != nil || string(b[:n]) != fmt.Sprint(i) {
			t.Fatalf("client %d isn't connected to who accepted it: %q, %v", i/2, b[:n], err)
		}
	}
}

// asStranger is the name that another process connects to, twice: see TestStranger.
const asStranger = "GLIS_TEST_STRANGER"

// Who goes on to connect to the name takes nobody's room.
func TestStrangers(t *testing.T) {
	s := &sockets{t: t}
	l := s.listener(sys.SOCK_STREAM, "\x00"+t.Name())
	for range atOnce {
		s.client(sys.SOCK_STREAM, "\x00"+t.Name())
		s.accept(l)
	}
	s.close(l)
	in, err := dumpTree(t, scanned(t, s.fds...))
	s.must(err)
	closeEach(t, s.fds)
	other := exec.Command(os.Args[0], "-test.run=^TestStranger$")
	other.Env = append(os.Environ(), asStranger+"=@"+t.Name(), "GLIS_TEST_AGAIN=1")
	out, err := other.StdoutPipe()
	s.must(err)
	s.must(other.Start())
	defer other.Wait()
	defer other.Process.Kill()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_, err = restored(t, in)
	s.must(err)
}

// Whoever else connects to a listener of ours meanwhile is not taken for the client.
func TestStranger(t *testing.T) {
	if name := os.Getenv(asStranger); name != "" {
		beStranger(t, name)
		return
	}
	s := &sockets{t: t}
	l := s.listener(sys.SOCK_STREAM, "\x00"+t.Name())
	other := exec.Command(os.Args[0], "-test.run=^TestStranger$")
	other.Env = append(os.Environ(), asStranger+"=@"+t.Name())
	in, err := other.StdinPipe()
	s.must(err)
	out, err := other.StdoutPipe()
	s.must(err)
	s.must(other.Start())
	defer other.Wait()
	defer in.Close()
	says := bufio.NewReader(out)
	k, n := counted()
	for range 2 {
		if _, err := says.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		client := s.client(sys.SOCK_STREAM, "\x00"+t.Name())
		for _, ours := range []bool{false, true} {
			got, err := k.connected(fd.New(s.dup(s.accept(l))), fd.New(s.dup(client)), ends{serverName: []byte("\x00" + t.Name()), connect: plan.Identity{PID: 7}})
			if err != nil || got != ours {
				t.Errorf("a connection is the client's: %v, %v; it should be %v", got, err, ours)
			}
		}
		fmt.Fprintln(in)
	}
	if *n != 2 {
		t.Errorf("asked %d times for a peer: once for the stranger's and once for ours it has to be", *n)
	}
}

func beStranger(t *testing.T, name string) {
	if os.Getenv("GLIS_TEST_AGAIN") != "" {
		fmt.Println("begun")
		for n := -1; ; {
			if n < 0 {
				n, _ = sys.Socket(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_NONBLOCK|sys.SOCK_CLOEXEC, 0)
			}
			if sys.Connect(n, &sys.SockaddrUnix{Name: name}) == nil {
				n = -1 // it waits there
			}
		}
	}
	in := bufio.NewReader(os.Stdin)
	for range 2 {
		n, err := sys.Socket(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
		if err == nil {
			err = sys.Connect(n, &sys.SockaddrUnix{Name: name})
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("connected")
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
	}
}

func (s *sockets) dup(n int) int {
	s.t.Helper()
	d, err := sys.FcntlInt(uintptr(n), sys.F_DUPFD_CLOEXEC, 0)
	s.must(err)
	return s.own(d)
}

// The kernel tells, of one socket, of some 1900 clients that wait, and of no more.
func TestManyWait(t *testing.T) {
	_, err := sockmem.OpenMemory()
	testkit.KernelMemory(t, err)
	const many = 2500
	s := &sockets{t: t}
	l := s.bound(sys.SOCK_STREAM, "\x00"+t.Name())
	s.must(sys.Listen(l, many))
	for range many {
		n, err := sys.Socket(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
		s.must(err)
		s.must(linux.Connect(n, (&address{name: []byte("\x00" + t.Name())}).sockaddr()))
		s.must(sys.Close(n))
	}
	in, err := dumpTree(t, scanned(t, s.fds...))
	s.must(err)
	closeEach(t, s.fds)
	fds, err := restored(t, in)
	s.must(err)
	for range many {
		n, _, err := sys.Accept4(fds[0], sys.SOCK_CLOEXEC|sys.SOCK_NONBLOCK)
		s.must(err)
		s.must(sys.Close(n))
	}
}
