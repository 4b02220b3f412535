package sockmem

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
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
	if y.At = x.At; !reflect.DeepEqual(y, x) {
		t.Errorf("opened once more %+v, before %+v", y, x)
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

// Of locks it tells those alone that are an open file's own.
func TestLoneLocked(t *testing.T) {
	m := memory(t)
	path := filepath.Join(t.TempDir(), "file")
	open := func(path string) int {
		n, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		must(t, err)
		t.Cleanup(func() { unix.Close(n) })
		return n
	}
	look := func(n int) *Lone {
		file, err := m.File(n)
		must(t, err)
		x, err := m.Lone(file)
		must(t, err)
		return x
	}
	end := int64(1<<63 - 1)
	tells := func(what string, n int, heard, bound bool, want ...Lock) {
		t.Helper()
		if x := look(n); !slices.Equal(x.Locks, want) || x.Heard != heard || x.Bound != bound {
			t.Errorf("%s: it tells %+v, noticed %v, bound %v, want %+v, %v, %v", what, x.Locks, x.Heard, x.Bound, want, heard, bound)
		}
	}
	locked, other := open(path), open(path)
	must(t, unix.Flock(locked, unix.LOCK_EX))
	tells("flock(2)", locked, false, false, Lock{"FLOCK", unix.F_WRLCK, 0, end})
	tells("of another one", other, false, false)
	record := &unix.Flock_t{Type: unix.F_RDLCK, Start: 3, Len: 4}
	must(t, errors.Join(unix.Flock(locked, unix.LOCK_UN), unix.FcntlFlock(uintptr(locked), unix.F_OFD_SETLK, record)))
	tells("a record lock", locked, false, false, Lock{"OFDLCK", unix.F_RDLCK, 3, 6})
	tells("of another one", other, false, false)
	record.Type = unix.F_UNLCK
	must(t, unix.FcntlFlock(uintptr(locked), unix.F_OFD_SETLK, record))
	tells("none any more", locked, false, false)
	path += "2"
	locked = open(path)
	must(t, set(locked, unix.F_SETLEASE, unix.F_WRLCK))
	tells("a lease", locked, true, false, Lock{"LEASE", unix.F_WRLCK, 0, end})
	if _, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatalf("the lease is not in the way: %v", err)
	}
	tells("a lease that is waited for", locked, true, true, Lock{"LEASE", unix.F_WRLCK, 0, end})
	must(t, errors.Join(set(locked, unix.F_SETLEASE, unix.F_UNLCK), unix.FcntlFlock(uintptr(locked), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})))
	tells("a process's", locked, false, true)
}

// Others take and release locks of the same file while it is looked at.
func TestLoneLockedMeanwhile(t *testing.T) {
	m := memory(t)
	path := filepath.Join(t.TempDir(), "file")
	open := func() int {
		n, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		must(t, err)
		t.Cleanup(func() { unix.Close(n) })
		return n
	}
	lock := func(n int, typ int16, at int64) error {
		return unix.FcntlFlock(uintptr(n), unix.F_OFD_SETLK, &unix.Flock_t{Type: typ, Start: at, Len: 1})
	}
	own, kick, done := open(), make(chan bool), make(chan error)
	var want []Lock
	for at := range int64(20) {
		must(t, lock(own, unix.F_WRLCK, 4*at))
		want = append(want, Lock{"OFDLCK", unix.F_WRLCK, 4 * at, 4 * at})
	}
	const others = 2
	for range others {
		other := open()
		go func() {
			var err error
			for range kick {
				for at := range int64(60) {
					err = errors.Join(err, lock(other, []int16{unix.F_RDLCK, unix.F_UNLCK}[at/30], 4*(at%30)+1))
				}
			}
			done <- err
		}()
	}
	file, err := m.File(own)
	must(t, err)
	for range 300 {
		for range others { // each goes on while the file is looked at, but not for ever
			kick <- true
		}
		x, err := m.Lone(file)
		if err != nil || !slices.Equal(x.Locks, want) {
			t.Errorf("%+v, %v", x, err)
			break
		}
	}
	close(kick)
	must(t, errors.Join(<-done, <-done))
}

// set calls fcntl(2).
func set(n, command, value int) error {
	_, err := unix.FcntlInt(uintptr(n), command, value)
	return err
}

// So it tells who is told of I/O on them, and by which signal. Who has ended is nobody.
func TestOwner(t *testing.T) {
	m := memory(t)
	for _, n := range ownerNames() {
		if !m.Has(n) {
			t.Fatalf("the kernel has no %s", n)
		}
	}
	if unix.Getpgrp() == 0 { // that of who started it, outside of its PID namespace
		must(t, unix.Setpgid(0, 0))
	}
	gone := exec.Command("/bin/true")
	must(t, gone.Start())
	for name, x := range map[string]struct {
		who linux.FOwnerEx
		sig int
	}{
		"nobody": {}, "a signal": {sig: 12}, "itself": {who: linux.FOwnerEx{Type: linux.F_OWNER_PID, PID: int32(os.Getpid())}}, "a thread": {linux.FOwnerEx{Type: linux.F_OWNER_TID, PID: int32(unix.Gettid())}, 40},
		"a group": {linux.FOwnerEx{Type: linux.F_OWNER_PGRP, PID: int32(unix.Getpgrp())}, 10}, "who ends": {linux.FOwnerEx{Type: linux.F_OWNER_PID, PID: int32(gone.Process.Pid)}, 11},
	} {
		n, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		must(t, err)
		defer unix.Close(n)
		if x.who.PID != 0 {
			must(t, linux.FcntlSetOwnerEx(n, x.who))
		}
		if x.sig != 0 {
			_, err = unix.FcntlInt(uintptr(n), linux.F_SETSIG, x.sig)
			must(t, err)
		}
		if name == "who ends" {
			must(t, gone.Wait())
			x.who.PID = 0
		}
		file, err := m.File(n)
		must(t, err)
		is, err := m.Lone(file)
		must(t, err)
		switch o := is.Owner; {
		case name == "nobody":
			if o != nil {
				t.Errorf("%s: %+v", name, o)
			}
		case o == nil || o.FOwnerEx != x.who || int(o.Signal) != x.sig || o.UID != uint32(unix.Getuid()) && x.who.PID != 0:
			t.Errorf("%s: %+v, want %+v", name, o, x)
		}
	}
}

// And which epoll files watch them, under which number.
func TestWatches(t *testing.T) {
	m := memory(t)
	watched, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	must(t, err)
	defer unix.Close(watched)
	want := map[Watch]bool{}
	for range 3 {
		e, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		must(t, err)
		defer unix.Close(e)
		at, err := m.File(e)
		must(t, err)
		must(t, unix.EpollCtl(e, unix.EPOLL_CTL_ADD, watched, &unix.EpollEvent{}))
		want[Watch{at, int32(watched)}] = true
	}
	file, err := m.File(watched)
	must(t, err)
	x, err := m.Lone(file)
	must(t, err)
	for _, w := range x.Watches {
		if !want[w] {
			t.Errorf("it is watched by %+v, want %v", w, want)
		}
		delete(want, w)
	}
	if len(want) > 0 {
		t.Errorf("that it is watched by %v isn't seen", want)
	}
}
