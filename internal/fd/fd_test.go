package fd

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// pair returns two connected sockets that are closed after the test.
func pair(t *testing.T) (a, b *FD) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = New(p[0]), New(p[1])
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func memfd(t *testing.T, content string) *FD {
	t.Helper()
	n, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := New(n)
	t.Cleanup(func() { f.Close() })
	if _, err := unix.Write(n, []byte(content)); err != nil {
		t.Fatal(err)
	}
	return f
}

func sameFile(t *testing.T, a, b int) bool {
	t.Helper()
	var x, y unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &x), unix.Fstat(b, &y)); err != nil {
		t.Fatal(err)
	}
	return x.Dev == y.Dev && x.Ino == y.Ino
}

func TestCloseTwice(t *testing.T) {
	f := memfd(t, "")
	n := f.Int()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f.Int() != -1 {
		t.Errorf("it is %d after Close", f.Int())
	}
	// The number belongs to somebody else now, whom a second Close must spare.
	other := memfd(t, "other")
	if err := unix.Dup3(other.Int(), n, unix.O_CLOEXEC); err != nil && other.Int() != n {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if !sameFile(t, n, other.Int()) {
		t.Error("the second Close closed what is not its own")
	}
	if other.Int() != n {
		unix.Close(n)
	}
}

func TestCloseFails(t *testing.T) {
	f := New(1 << 29)
	if err := f.Close(); !errors.Is(err, unix.EBADF) || !strings.Contains(err.Error(), "descriptor 536870912") {
		t.Errorf("got %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestSend(t *testing.T) {
	from, to := pair(t)
	a, b := memfd(t, "a"), memfd(t, "b")
	fds := make([]int, MaxRights+3) // two messages
	for i := range fds {
		fds[i] = []int{a.Int(), b.Int()}[i%2]
	}
	if err := Send(from.Int(), fds); err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, want := range []int{MaxRights, 3} {
		rights := receive(t, to.Int())
		if len(rights) != want {
			t.Errorf("a message of %d, want %d", len(rights), want)
		}
		got = append(got, rights...)
	}
	for i, n := range got {
		if !sameFile(t, n, fds[i]) {
			t.Errorf("descriptor %d is not the one that was sent", i)
		}
		unix.Close(n)
	}
}

func receive(t *testing.T, sock int) []int {
	t.Helper()
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4*MaxRights))
	_, n, _, _, err := unix.Recvmsg(sock, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	return fds
}

func TestSendFails(t *testing.T) {
	from, _ := pair(t)
	if err := Send(from.Int(), nil); err != nil {
		t.Errorf("nothing to send: %v", err)
	}
	if err := Send(from.Int(), []int{1 << 29}); !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v", err)
	}
}

// Nobody waits for room that only others could make.
func TestSendFull(t *testing.T) {
	from, _ := pair(t)
	f := memfd(t, "")
	for range 1 << 20 {
		if err := Send(from.Int(), []int{f.Int()}); errors.Is(err, unix.EAGAIN) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("there is room for everything")
}

// What is borrowed shares the position with what it was borrowed from.
func TestBorrow(t *testing.T) {
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	own := memfd(t, "abc")
	got, err := Borrow(pidfd, int32(own.Int()))
	testkit.Lacks(t, "pidfd_getfd(2)", err)
	defer got.Close()
	if got.Int() == own.Int() {
		t.Fatal("it is no duplicate")
	}
	if _, err := unix.Seek(own.Int(), 2, 0); err != nil {
		t.Fatal(err)
	}
	if at, err := unix.Seek(got.Int(), 0, 1); err != nil || at != 2 {
		t.Errorf("the duplicate stands at %d, %v", at, err)
	}
	if _, err := Borrow(pidfd, 1<<29); !errors.Is(err, unix.EBADF) {
		t.Errorf("a descriptor that is not there: %v", err)
	}
}

func TestCloseAll(t *testing.T) {
	var all []*FD
	var nums []int
	for range 5 {
		f := memfd(t, "")
		all, nums = append(all, f), append(nums, f.Int())
	}
	kept := all[2]
	CloseAll([]*FD{all[4], all[0], all[3], all[1]})
	CloseAll(all[:1]) // again
	for i, n := range nums {
		_, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if open := err == nil; open != (i == 2) {
			t.Errorf("descriptor %d (%d) is open: %v", n, i, open)
		}
	}
	if kept.Int() != nums[2] || all[0].Int() != -1 {
		t.Error("the wrong ones count as closed")
	}
}
