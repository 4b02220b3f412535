package standin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// maker returns a Maker, and what asks it for a file like one of the test's own.
func maker(t *testing.T) (k *Maker, like func(int) (int, error)) {
	t.Helper()
	m, err := sockmem.OpenMemory(Names()...)
	if errors.Is(err, kmem.ErrUnavailable) {
		testkit.KernelMemory(t, err)
	}
	must(t, err)
	t.Cleanup(func() { m.Close() })
	if k, err = New(m); err != nil {
		t.Fatal(err)
	}
	if len(k.kinds) != len(kinds()) {
		t.Fatalf("%d of %d kinds are known", len(k.kinds), len(kinds()))
	}
	t.Cleanup(func() { k.Close() })
	k.Held = func(kmem.Addr) (*fd.FD, error) { return nil, nil }
	k.Of, k.Mapped = k.Held, k.Held
	return k, func(n int) (int, error) {
		at, err := m.File(n)
		must(t, err)
		x, err := m.Lone(at)
		must(t, err)
		own, err := k.Make(x)
		if err != nil {
			return -1, err
		}
		t.Cleanup(func() { own.Close() })
		return own.Int(), nil
	}
}

func pair(t *testing.T, flags int) (r, w int) {
	t.Helper()
	var p [2]int
	must(t, unix.Pipe2(p[:], flags|unix.O_CLOEXEC|unix.O_NONBLOCK))
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func read(n int) string {
	b := make([]byte, 1<<20)
	got, err := unix.Read(n, b)
	if err != nil {
		return err.Error()
	}
	return string(b[:got])
}

// A pipe like another one has what is in that, and both ends are of one.
func TestPipe(t *testing.T) {
	k, like := maker(t)
	r, w := pair(t, 0)
	text := strings.Repeat("0123456789", 2000)
	unix.Write(w, []byte("gone"+text))
	unix.Read(r, make([]byte, 4))
	nr, err := like(r)
	must(t, err)
	nw, err := like(w)
	must(t, err)
	if got := read(nr); got != text {
		t.Errorf("it has %d bytes, %.20q", len(got), got)
	}
	must(t, k.Finish())
	unix.Write(nw, []byte("more"))
	if got := read(nr) + read(r); got != "more"+text {
		t.Errorf("then %.20q", got)
	}
}

// What was written as packets is read as such.
func TestPackets(t *testing.T) {
	_, like := maker(t)
	r, w := pair(t, unix.O_DIRECT)
	for _, s := range []string{"a", "bc", "def"} {
		unix.Write(w, []byte(s))
	}
	n, err := like(r)
	must(t, err)
	if got := read(n) + "," + read(n) + "," + read(n); got != "a,bc,def" {
		t.Errorf("packets %s", got)
	}
}

// An end that nobody asked for is somebody else's.
func TestPipeElsewhere(t *testing.T) {
	k, like := maker(t)
	r, _ := pair(t, 0)
	if _, err := like(r); err != nil {
		t.Fatal(err)
	}
	if err := k.Finish(); !errors.Is(err, ErrUnlike) || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a pipe with an end elsewhere: %v", err)
	}
}

// A memfd like another one has all its pages, holes, what was only allocated, and seals.
func TestMemfd(t *testing.T) {
	_, like := maker(t)
	n, err := unix.MemfdCreate("some name", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	must(t, err)
	defer unix.Close(n)
	page := make([]byte, 4096)
	for _, at := range []int64{0, 1, 63, 64, 65, 4095, 4096, 300000} { // of all levels of the tree
		copy(page, fmt.Sprint("page ", at))
		_, err := unix.Pwrite(n, page, at*4096)
		must(t, err)
	}
	must(t, unix.Ftruncate(n, 300001*4096-1000))
	must(t, unix.Fallocate(n, 0, 5*4096, 3*4096))
	_, err = unix.FcntlInt(uintptr(n), unix.F_ADD_SEALS, unix.F_SEAL_GROW)
	must(t, err)
	own, err := like(n)
	must(t, err)
	sum := func(n int) string {
		f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", n))
		must(t, err)
		defer f.Close()
		st, err := f.Stat()
		must(t, err)
		out := fmt.Sprint(st.Size(), st.Mode())
		b := make([]byte, 4096)
		for i := int64(0); i*4096 < st.Size(); i++ {
			at, err := f.Seek(i*4096, unix.SEEK_DATA)
			if err != nil {
				break
			}
			i = at / 4096
			k, _ := f.ReadAt(b, i*4096)
			if s := strings.Trim(string(b[:k]), "\x00"); s != "" {
				out += fmt.Sprintf(" %d:%.40q", i, s)
			}
		}
		link, _ := os.Readlink(f.Name())
		seals, _ := unix.FcntlInt(uintptr(n), unix.F_GET_SEALS, 0)
		return fmt.Sprint(out, link, seals)
	}
	if got, want := sum(own), sum(n); got != want {
		t.Errorf("it is %s\nlike %s", got, want)
	}
}

// A folio of many pages is copied as a whole.
func TestMemfdHuge(t *testing.T) {
	_, like := maker(t)
	n, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC)
	must(t, err)
	defer unix.Close(n)
	const size = 6 << 20
	must(t, unix.Ftruncate(n, size))
	b, err := unix.Mmap(n, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	unix.Madvise(b, unix.MADV_HUGEPAGE) //nolint:errcheck // then they are small
	for i := range b {
		b[i] = byte(i >> 12 * 7)
	}
	if _, err := like(n); !errors.Is(err, ErrUnlike) {
		t.Errorf("one that is mapped: %v", err)
	}
	unix.Madvise(b, unix.MADV_COLLAPSE) //nolint:errcheck // see above
	must(t, unix.Munmap(b))
	own, err := like(n)
	must(t, err)
	got := make([]byte, size)
	if k, err := unix.Pread(own, got, 0); err != nil || k != size {
		t.Fatalf("read %d: %v", k, err)
	}
	for i := range got {
		if got[i] != byte(i>>12*7) {
			t.Fatalf("byte %d is %d", i, got[i])
		}
	}
}

// What can't be told is refused, and why.
func TestUnlike(t *testing.T) {
	_, like := maker(t)
	dir := t.TempDir()
	open := func(flags int) int {
		n, err := unix.Open(dir+"/file", flags|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		must(t, err)
		t.Cleanup(func() { unix.Close(n) })
		return n
	}
	e, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(t, err)
	defer unix.Close(e)
	watched, _ := pair(t, 0)
	must(t, unix.EpollCtl(e, unix.EPOLL_CTL_ADD, watched, &unix.EpollEvent{Events: unix.EPOLLIN}))
	faults, _, no := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1 /* UFFD_USER_MODE_ONLY */, 0, 0)
	if no != 0 {
		testkit.Lacks(t, "userfaultfd (CONFIG_USERFAULTFD)", no, unix.ENOSYS)
	}
	defer unix.Close(int(faults))
	gone := open(unix.O_RDWR)
	path, err := unix.Open(dir+"/file", unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(path)
	must(t, os.Remove(dir+"/file"))
	was := open(unix.O_RDWR)
	must(t, errors.Join(unix.Flock(was, unix.LOCK_EX), unix.Flock(was, unix.LOCK_UN)))
	if _, err := like(was); err != nil {
		t.Errorf("a file that was locked once: %v", err)
	}
	must(t, os.Remove(dir+"/file"))
	other := open(unix.O_RDWR)
	must(t, unix.FcntlFlock(uintptr(other), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	for name, x := range map[string]struct {
		n   int
		why string
	}{
		"userfaultfd": {int(faults), "of a kind"}, "epoll": {e, "no task of the tree has open"}, "O_PATH": {path, "another file by now"}, "deleted": {gone, "another file by now"}, "lock": {other, "a lock"},
	} {
		if _, err := like(x.n); !errors.Is(err, ErrUnlike) || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: %v, want %q", name, err, x.why)
		}
	}
}

// What is watched, or whose directory is, is opened as with O_PATH, and so is what a lease is
// on: nobody hears of that.
func TestAside(t *testing.T) {
	_, like := maker(t)
	dir := t.TempDir()
	in, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	defer unix.Close(in)
	open := func(name string, flags int) int {
		n, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
		must(t, err)
		t.Cleanup(func() { unix.Close(n) })
		return n
	}
	must(t, errors.Join(unix.Mkfifo(dir+"/fifo", 0o600), os.WriteFile(dir+"/gone", nil, 0o600)))
	file, folder, fifo, gone := open(dir+"/file", unix.O_RDWR|unix.O_CREAT), open(dir, unix.O_RDONLY), open(dir+"/fifo", unix.O_RDWR), open(dir+"/gone", unix.O_RDONLY)
	must(t, os.Remove(dir+"/gone"))
	_, err = unix.InotifyAddWatch(in, dir, unix.IN_ALL_EVENTS)
	must(t, err)
	leased := open(t.TempDir()+"/leased", unix.O_RDWR|unix.O_CREAT)
	_, err = unix.FcntlInt(uintptr(leased), unix.F_SETLEASE, unix.F_WRLCK)
	must(t, err)
	for name, n := range map[string]int{"file": file, "directory": folder, "lease": leased} {
		own, err := like(n)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var a, b unix.Stat_t
		if must(t, errors.Join(unix.Fstat(n, &a), unix.Fstat(own, &b))); a != b {
			t.Errorf("%s: it is another file: %+v, %+v", name, b, a)
		}
	}
	for name, n := range map[string]int{"neither a file": fifo, "leads nowhere": gone} {
		if _, err := like(n); !errors.Is(err, ErrUnlike) || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
	if n, err := unix.Read(in, make([]byte, 1000)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("who watches has heard of it: %d bytes, %v", n, err)
	}
	if is, err := unix.FcntlInt(uintptr(leased), unix.F_GETLEASE, 0); is != unix.F_WRLCK || err != nil {
		t.Errorf("the lease is %d now, %v", is, err)
	}
}

// A message queue is opened by its name once more, unless that was removed, or is another
// one's by now.
func TestQueue(t *testing.T) {
	testkit.RequireRoot(t)
	_, like := maker(t)
	dir, name := t.TempDir(), fmt.Sprintf("glis-standin-%d", os.Getpid())
	must(t, unix.Mount("mqueue", dir, "mqueue", 0, ""))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, name)
	open := func(flags int) int {
		made, err := unix.Open(path, unix.O_CREAT|unix.O_RDONLY|unix.O_CLOEXEC, 0o600)
		must(t, errors.Join(err, unix.Close(made)))
		n, err := linux.MqOpen(name, flags)
		must(t, err)
		t.Cleanup(func() { unix.Close(n) })
		return n
	}
	a := open(unix.O_RDONLY | unix.O_NONBLOCK)
	_, err := unix.Read(a, make([]byte, 5)) // what it tells of itself
	must(t, err)
	n, err := like(a)
	must(t, err)
	if got, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0); err != nil || got != unix.O_RDONLY|unix.O_NONBLOCK {
		t.Errorf("its flags are %#x: %v", got, err)
	}
	if at, err := unix.Seek(n, 0, unix.SEEK_CUR); err != nil || at != 5 {
		t.Errorf("it is at %d: %v", at, err)
	}
	must(t, os.Remove(path))
	for range 2 {
		if _, err := like(a); !errors.Is(err, ErrUnlike) {
			t.Errorf("its name was removed: %v", err)
		}
		open(unix.O_RDWR)
	}
	must(t, os.Remove(path))
}

// Files that were added to an epoll file by one number are counted as kcmp(2) does.
func TestNth(t *testing.T) {
	k, _ := maker(t)
	e, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(t, err)
	defer unix.Close(e)
	by, err := k.memory.File(e)
	must(t, err)
	var all []int
	for range 20 {
		r, _ := pair(t, 0)
		n, err := unix.FcntlInt(uintptr(r), unix.F_DUPFD_CLOEXEC, 900)
		must(t, err)
		must(t, unix.EpollCtl(e, unix.EPOLL_CTL_ADD, n, &unix.EpollEvent{}))
		must(t, unix.Close(n))
		if n != 900 {
			t.Fatalf("the number is %d", n)
		}
		all = append(all, r)
	}
	for _, n := range all {
		at, err := k.memory.File(n)
		must(t, err)
		nth, err := k.Nth(sockmem.Watch{By: by, Number: 900}, at)
		must(t, err)
		same, err := linux.KcmpEpoll(os.Getpid(), n, os.Getpid(), e, 900, nth)
		if err != nil || !same {
			t.Errorf("descriptor %d is not number %d: %v", n, nth, err)
		}
	}
	if _, err := k.Nth(sockmem.Watch{By: by, Number: 901}, by); !errors.Is(err, ErrUnlike) {
		t.Errorf("what isn't watched: %v", err)
	}
}

// What was opened with O_PATH is by its path once more, whatever that is, and watched by
// whomever: nobody hears of it.
func TestPathOnly(t *testing.T) {
	k, like := maker(t)
	dir := t.TempDir()
	must(t, errors.Join(os.WriteFile(dir+"/file", nil, 0o600), os.Symlink("file", dir+"/link"), unix.Mkfifo(dir+"/fifo", 0o600), os.WriteFile(dir+"/gone", nil, 0o600)))
	in, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	defer unix.Close(in)
	_, err = unix.InotifyAddWatch(in, dir, unix.IN_OPEN|unix.IN_CLOSE)
	must(t, err)
	open := func(name string, flags int) int {
		n, err := unix.Open(name, flags|unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(n) })
		return n
	}
	gone := open(dir+"/gone", 0)
	must(t, os.Remove(dir+"/gone"))
	at, err := k.memory.File(gone)
	must(t, err)
	x, err := k.memory.Lone(at)
	must(t, err)
	held, err := unix.FcntlInt(uintptr(gone), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	k.Known(x.Inode, fd.New(held)) // the tree has it otherwise
	for name, n := range map[string]int{
		"file": open(dir+"/file", 0), "link": open(dir+"/link", unix.O_NOFOLLOW), "directory": open(dir, unix.O_DIRECTORY), "FIFO": open(dir+"/fifo", 0), "device": open("/dev/null", 0), "gone": gone,
	} {
		own, err := like(n)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var a, b unix.Stat_t
		must(t, errors.Join(unix.Fstat(n, &a), unix.Fstat(own, &b)))
		was, err1 := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
		is, err2 := unix.FcntlInt(uintptr(own), unix.F_GETFL, 0)
		if a != b || was != is || err1 != nil || err2 != nil {
			t.Errorf("%s: flags %#x, not %#x, or another file: %+v, %+v", name, is, was, b, a)
		}
	}
	if n, err := unix.Read(in, make([]byte, 1000)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("who watches has heard of it: %d bytes, %v", n, err)
	}
}
