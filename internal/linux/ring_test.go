package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

func ring(t *testing.T) *Ring {
	t.Helper()
	r, err := NewRing()
	if err != nil {
		testkit.Lacks(t, "io_uring with bind (Linux 6.11)", err, unix.ENOSYS, unix.EPERM, unix.ENOTSUP)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func stream(t *testing.T) int {
	t.Helper()
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	return n
}

var loopback = []byte{127, 0, 0, 1}

// What a ring is told is made in its order, when it runs and not before, as often as
// there is something.
func TestRing(t *testing.T) {
	h := Together(ring(t))
	for range 3 * ringSize { // round the queue
		a, b := stream(t), stream(t)
		var room [28]byte
		if err := errors.Join(
			h.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_PRIORITY, 3),
			h.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_PRIORITY, 5), // the last one counts
			h.Bind(a, SockaddrInet(&room, loopback, 0, 0)),
		); err != nil {
			t.Fatal(err)
		}
		if v, err := unix.GetsockoptInt(a, unix.SOL_SOCKET, unix.SO_PRIORITY); err != nil || v != 0 {
			t.Fatalf("before it ran: %d, %v", v, err)
		}
		if err := h.Run(); err != nil {
			t.Fatal(err)
		}
		if v, err := unix.GetsockoptInt(a, unix.SOL_SOCKET, unix.SO_PRIORITY); err != nil || v != 5 {
			t.Fatalf("after it ran: %d, %v", v, err)
		}
		at, err := unix.Getsockname(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(a, 1); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.Connect(b, SockaddrInet(&room, loopback, uint16(at.(*unix.SockaddrInet4).Port), 0)), h.Run()); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Getpeername(b); err != nil {
			t.Fatal(err)
		}
	}
}

// Of what fails the first is told, and the next run is not about it.
func TestRingFails(t *testing.T) {
	h := Together(ring(t))
	n := stream(t)
	var room [28]byte
	for range 3 {
		if err := errors.Join(
			h.Setsockopt(n, unix.SOL_SOCKET, unix.SO_PRIORITY, []byte{1}), // too short
			h.Bind(n, SockaddrInet(&room, []byte{192, 0, 2, 1}, 0, 0)),
		); err != nil {
			t.Fatal(err)
		}
		if err := h.Run(); err != unix.EINVAL {
			t.Errorf("got %v, want %v", err, unix.EINVAL)
		}
		if err := errors.Join(h.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_PRIORITY, 1), h.Run()); err != nil {
			t.Error(err)
		}
	}
}

// More than there is room for is refused, and what is forgotten is not made.
func TestRingFull(t *testing.T) {
	h := Together(ring(t))
	n := stream(t)
	for range ringSize {
		if err := h.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_PRIORITY, 6); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_PRIORITY, 1); err != unix.ENOBUFS {
		t.Errorf("one more call: %v", err)
	}
	h.Forget()
	if err := h.Setsockopt(n, unix.SOL_SOCKET, unix.SO_PRIORITY, make([]byte, ringBytes+1)); err != unix.ENOBUFS {
		t.Errorf("a larger value: %v", err)
	}
	if err := errors.Join(h.Run(), h.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_MARK, 0), h.Run()); err != nil {
		t.Error(err)
	}
	if v, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_PRIORITY); err != nil || v != 0 {
		t.Errorf("what was forgotten was made: %d, %v", v, err)
	}
}

// Files are opened in their order, and each that can't be says why.
func TestRingOpens(t *testing.T) {
	h := Together(ring(t))
	dir := t.TempDir()
	for _, name := range []string{"a", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	for _, name := range []string{"a", "b", "c", strings.Repeat("x", 300)} {
		if _, err := h.Open(at, name, unix.O_RDONLY|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Run(); err != unix.ENOENT {
		t.Errorf("got %v, want %v", err, unix.ENOENT)
	}
	got := h.Results()
	if len(got) != 4 || got[1] != -int32(unix.ENOENT) || got[3] != -int32(unix.ENAMETOOLONG) {
		t.Fatalf("results %v", got)
	}
	for i, want := range map[int]string{0: "a", 2: "c"} {
		var b [8]byte
		n, err := unix.Read(int(got[i]), b[:])
		if err != nil || string(b[:n]) != want {
			t.Errorf("file %d: %q, %v; want %q", i, b[:n], err, want)
		}
		if flags, err := unix.FcntlInt(uintptr(got[i]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("flags %#o, %v", flags, err)
		}
		unix.Close(int(got[i]))
	}
}

// A hand that was given back is taken again; where the kernel has no rings, one is
// taken that makes each call at once.
func TestRings(t *testing.T) {
	ring(t) // there are some
	var p Rings
	a, b := p.TakeRing(), p.TakeRing()
	if !a.Waits() || !b.Waits() || a == b {
		t.Error("two at a time share a ring, or have none")
	}
	if err := a.SetsockoptInt(-1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	p.Give(a)
	if c := p.TakeRing(); c != a || c.Run() != nil {
		t.Error("another ring was made, or something waits")
	}
	p.Give(a)
	p.Give(b)
	p.Close()
	p.none = true
	if h := p.TakeRing(); h.Waits() || !h.Many() {
		t.Error("a ring was made where there are none")
	}
	p.Give(Hand{})
}

// Where a system call takes less time than a ring needs for one no ring is made, and each
// call is made at once.
func TestQuickCalls(t *testing.T) {
	defer func(f func() bool) { QuickCalls = f }(QuickCalls)
	var p Rings
	defer p.Close()
	QuickCalls = func() bool { return false }
	slow := p.Take()
	p.Give(slow)
	QuickCalls = func() bool { return true }
	h := p.Take()
	defer p.Give(h)
	if h.Waits() || !h.Many() || !slow.Many() || (Hand{}).Many() {
		t.Error("it isn't known which hands are for many sockets")
	}
	n, other := stream(t), stream(t)
	var room [28]byte
	if err := errors.Join(h.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_PRIORITY, 3), h.Bind(n, SockaddrInet(&room, loopback, 0, 0))); err != nil {
		t.Fatal(err)
	}
	if v, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_PRIORITY); err != nil || v != 3 {
		t.Errorf("SO_PRIORITY is %d, %v", v, err)
	}
	at, err := unix.Getsockname(n)
	if err != nil {
		t.Fatal(err)
	}
	to := SockaddrInet(&room, loopback, uint16(at.(*unix.SockaddrInet4).Port), 0)
	if err := h.Connect(other, to); err != unix.ECONNREFUSED {
		t.Errorf("connect where nobody listens: %v", err)
	}
	if err := errors.Join(unix.Listen(n, 1), h.Connect(other, to), h.Run()); err != nil {
		t.Error(err)
	}
	if err := h.Bind(n, to); err != unix.EINVAL {
		t.Errorf("bind once more: %v", err)
	}
}

// A call that has to wait is waited for, whatever signals come meanwhile.
func TestRingInterrupted(t *testing.T) {
	h := Together(ring(t))
	address := append([]byte{unix.AF_UNIX, 0}, filepath.Join(t.TempDir(), "s")...)
	listener, first, second := unixStream(t), unixStream(t), unixStream(t)
	if err := errors.Join(Bind(listener, address), unix.Listen(listener, 0), Connect(first, address)); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	go func(tid int) {
		for range 20 { // the queue is full until then
			for entered := false; !entered; runtime.Gosched() {
				b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
				entered = err != nil || strings.HasPrefix(string(b), fmt.Sprint(unix.SYS_IO_URING_ENTER, " "))
			}
			_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
		}
		n, _, err := unix.Accept(listener)
		if err == nil {
			_ = unix.Close(n)
		}
	}(unix.Gettid())
	err := h.Connect(second, address)
	if err == nil {
		err = h.Run()
	}
	if err != nil {
		t.Error(err)
	}
}

func unixStream(t *testing.T) int {
	t.Helper()
	n, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	return n
}
