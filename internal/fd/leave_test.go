package fd

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What was left is closed in the end, and only once everybody has closed it.
func TestLeave(t *testing.T) { testLeave(t, (*FD).Leave) }

// So it is where no ring of io_uring can be made.
func TestLeaveAsGarbage(t *testing.T) {
	testLeave(t, func(f *FD) error { return f.leave(func([2]int) error { return unix.ENOSYS }) })
}

func testLeave(t *testing.T, leave func(*FD) error) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := New(n)
	if err := leave(f); err != nil || f.Int() != -1 {
		t.Fatalf("it is %d now: %v", f.Int(), err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Errorf("the other descriptor: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if n, err := r.Read(b); n != 1 || err != nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
	if n, err := r.Read(b); n != 0 { // waits until nobody has it
		t.Errorf("read %d bytes more: %v", n, err)
	}
}
