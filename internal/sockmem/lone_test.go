package sockmem

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel's memory tells what open files are, and what hangs on them.
func TestLone(t *testing.T) {
	m := memory(t)
	for _, n := range loneNames() {
		if !m.Has(n) {
			t.Errorf("the kernel has no %s", n)
		}
	}
	if t.Failed() {
		return
	}
	path := filepath.Join(t.TempDir(), "some", "file")
	must(t, os.Mkdir(filepath.Dir(path), 0o755))
	open := func() int {
		n, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o640)
		must(t, err)
		t.Cleanup(func() { unix.Close(n) })
		_, err = unix.Seek(n, 7, unix.SEEK_SET)
		must(t, err)
		return n
	}
	look := func(n int) *Lone {
		file, err := m.File(n)
		must(t, err)
		x, err := m.Lone(file)
		must(t, err)
		return x
	}
	n := open()
	flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
	must(t, err)
	x := look(n)
	if x.Path != path || x.Pos != 7 || x.Flags != uint32(flags) || x.Mode != unix.S_IFREG|0o640 || x.Bound {
		t.Errorf("%+v, want %s with flags %#x at 7", x, path, flags)
	}
	y := look(open())
	if y.At == x.At {
		t.Errorf("two open files are both at %#x", x.At)
	}
	if y.At = x.At; *y != *x {
		t.Errorf("opened once more %+v, before %+v", y, x)
	}
	for name, bind := range map[string]func(n int) error{
		"a lock":   func(n int) error { return unix.Flock(n, unix.LOCK_EX) },
		"an owner": func(n int) error { _, err := unix.FcntlInt(uintptr(n), unix.F_SETOWN, os.Getpid()); return err },
	} {
		must(t, os.Remove(path))
		n := open()
		must(t, bind(n))
		if x := look(n); !x.Bound {
			t.Errorf("%s isn't seen: %+v", name, x)
		}
	}
	e, err := unix.Eventfd(9, unix.EFD_SEMAPHORE|unix.EFD_CLOEXEC)
	must(t, err)
	defer unix.Close(e)
	file, err := m.File(e)
	must(t, err)
	if count, semaphore, err := m.Counter(file); err != nil || count != 9 || !semaphore || look(e).Bound {
		t.Errorf("eventfd: %d, semaphore %v, %v, %+v", count, semaphore, err, look(e))
	}
}
