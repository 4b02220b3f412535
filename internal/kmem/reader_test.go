package kmem

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

func open(t testing.TB, names ...string) *Reader {
	t.Helper()
	r, err := Open(names...)
	testkit.KernelMemory(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func TestSock(t *testing.T) {
	start := time.Now()
	r := open(t, "sock_common.skc_family", "sock_common.skc_state")
	t.Log("open", time.Since(start))
	for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX} {
		n, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(n)
		at, err := r.Sock(n)
		if err != nil {
			t.Fatal(err)
		}
		var b [2]byte
		if err := r.ReadAt(b[:], at+r.Off("sock_common.skc_family")); err != nil {
			t.Fatal(err)
		}
		if int(b[0]) != family {
			t.Errorf("family %d, want %d", b[0], family)
		}
	}
}

func TestNowhere(t *testing.T) {
	r := open(t)
	var b [8]byte
	for _, at := range []Addr{0, 8, 1 << 40, 0xffff_ffff_ffff_0000, 0x8000_0000_0000_0000} {
		if err := r.ReadAt(b[:], at); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%#x: %v", at, err)
		}
	}
	if _, err := r.Page(12345); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a page at 12345: %v", err)
	}
}

// What lies in a pipe is read without taking it.
func TestPages(t *testing.T) {
	r := open(t)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	want := make([]byte, pageSize)
	if _, err := rand.Read(want); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(p[1], want); err != nil {
		t.Fatal(err)
	}
	at, err := r.File(p[0])
	for _, f := range []string{"file.private_data", "pipe_inode_info.bufs", "pipe_buffer.page"} {
		if err == nil {
			at, err = r.Pointer(at + r.Off(f))
		}
	}
	if err == nil {
		at, err = r.Page(at)
	}
	got := make([]byte, pageSize)
	if err == nil {
		err = r.ReadAt(got, at)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Error("it is not what was written")
	}
}

func TestMissing(t *testing.T) {
	for _, name := range []string{"no_such_struct.x", "sock.no_such_member"} {
		if r, err := Open(name); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				r.Close()
			}
		}
	}
}
