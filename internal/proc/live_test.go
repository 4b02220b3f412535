package proc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// self opens this process.
func self(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(PID(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestSelf(t *testing.T) {
	d := self(t)
	stat, status := must[Stat](t)(d.Stat()), must[Status](t)(d.Status())
	if int(stat.PID) != os.Getpid() || int(stat.PPID) != os.Getppid() || stat.Comm != status.Name {
		t.Errorf("stat %+v, status %+v", stat, status)
	}
	if int(status.Uid[1]) != os.Geteuid() || status.Tgid != stat.PID || status.Threads == 0 {
		t.Errorf("status %+v", status)
	}
	threads := must[[]TID](t)(d.Threads())
	if !slices.Contains(threads, TID(os.Getpid())) || !slices.IsSorted(threads) {
		t.Errorf("threads %v", threads)
	}
	var want unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
		t.Fatal(err)
	}
	if l := must[Limits](t)(d.Limits()); l[unix.RLIMIT_NOFILE] != [2]uint64{want.Cur, want.Max} {
		t.Errorf("limits %v, want files %v", l, want)
	}
	if exe := must[string](t)(d.Link("exe")); !filepath.IsAbs(exe) {
		t.Errorf("exe is %q", exe)
	}
	if auxv := must[[]byte](t)(d.Auxv()); len(auxv) == 0 || len(auxv)%16 != 0 {
		t.Errorf("auxv of %d bytes", len(auxv))
	}
	if m, err := Mountinfo(d); err != nil || len(m) == 0 {
		t.Errorf("%d mounts, %v", len(m), err)
	}
}

func TestSelfRest(t *testing.T) {
	d := self(t)
	for name, f := range map[string]func() error{
		"timers":        func() error { _, err := d.Timers(); return err },
		"cgroup":        func() error { _, err := d.Cgroups(); return err },
		"uid_map":       func() error { _, err := d.UIDMap(); return err },
		"gid_map":       func() error { _, err := d.GIDMap(); return err },
		"oom":           func() error { _, err := d.OOMScoreAdj(); return err },
		"loginuid":      func() error { _, err := d.LoginUID(); return err },
		"timerslack":    func() error { _, err := d.TimerSlack(); return err },
		"personality":   func() error { _, err := d.Personality(); return err },
		"coredump":      func() error { _, err := d.CoredumpFilter(); return err },
		"autogroup":     func() error { _, err := d.Autogroup(); return err },
		"wchan":         func() error { _, err := d.Wchan(); return err },
		"syscall":       func() error { _, err := d.SyscallState(); return err },
		"thread":        func() error { _, err := d.Thread(TID(d.PID())).Syscall(); return err },
		"children":      func() error { _, err := d.Children(TID(d.PID())); return err },
		"thread's stat": func() error { _, err := d.ThreadStat(TID(d.PID())); return err },
	} {
		if err := f(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNamesFromTheKernel gives a thread every nasty name and reads it back in
// three ways.
func TestNamesFromTheKernel(t *testing.T) {
	d := self(t)
	runtime.LockOSThread() // never unlocked: the renamed thread ends with the test
	tid := TID(unix.Gettid())
	for _, name := range append(nastyNames, "fifteen letters") {
		if len(name) > 15 || name == "" {
			continue
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", tid), []byte(name), 0); err != nil {
			t.Fatal(err)
		}
		stat, err1 := d.ThreadStat(tid)
		comm, err2 := d.ThreadComm(tid)
		_, err3 := d.ThreadStatus(tid)
		if stat.Comm != name || comm != name || err1 != nil || err2 != nil || err3 != nil {
			t.Errorf("%q: stat %q, comm %q; %v %v %v", name, stat.Comm, comm, err1, err2, err3)
		}
	}
}

func TestMapsOfRealFiles(t *testing.T) {
	d := self(t)
	dir := t.TempDir()
	for _, name := range []string{"plain", "with space", "new\nline", "x (deleted)", "tab\tand)paren"} {
		path := filepath.Join(dir, name)
		f := must[*os.File](t)(os.Create(path))
		if err := f.Truncate(8192); err != nil {
			t.Fatal(err)
		}
		mem := must[[]byte](t)(unix.Mmap(int(f.Fd()), 4096, 4096, unix.PROT_READ, unix.MAP_SHARED))
		f.Close()
		v := mapping(t, d, path)
		if v.Offset != 4096 || v.Prot != unix.PROT_READ || !v.Shared || v.Inode == 0 || !v.Flags.Has(VmRead|VmShared) {
			t.Errorf("%q: %+v", name, v)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if v := mapping(t, d, path); !v.Deleted {
			t.Errorf("removed %q: %+v", name, v)
		}
		if link := must[string](t)(d.Link(v.MapFile())); link != path+dead {
			t.Errorf("%q: link says %q", name, link)
		}
		if err := unix.Munmap(mem); err != nil {
			t.Fatal(err)
		}
	}
}

// mapping finds a mapped file in smaps, and checks that maps says the same. A
// name that ends in " (deleted)" loses that.
func mapping(t *testing.T, d *Dir, path string) VMA {
	t.Helper()
	for _, list := range [][]VMA{must[[]VMA](t)(d.Maps()), must[[]VMA](t)(d.Smaps())} {
		i := slices.IndexFunc(list, func(v VMA) bool { return v.Name == path || v.Name+dead == path })
		if i < 0 {
			t.Fatalf("%q is not there", path)
		}
		if list[i].Flags != 0 {
			return list[i]
		}
	}
	t.Fatalf("%q has no flags", path)
	return VMA{}
}

func TestManyMappings(t *testing.T) {
	d := self(t)
	const pages = 2000
	mem := must[[]byte](t)(unix.Mmap(-1, 0, 2*pages*4096, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON))
	defer unix.Munmap(mem)
	for i := range pages {
		if err := unix.Mprotect(mem[2*i*4096:(2*i+1)*4096], unix.PROT_READ); err != nil {
			t.Fatal(err)
		}
	}
	for _, list := range [][]VMA{must[[]VMA](t)(d.Maps()), must[[]VMA](t)(d.Smaps())} {
		if len(list) < 2*pages || !slices.IsSortedFunc(list, func(a, b VMA) int { return int(a.Start>>12) - int(b.End>>12) }) {
			t.Errorf("%d mappings", len(list))
		}
	}
}

func TestFDs(t *testing.T) {
	d := self(t)
	e := must[int](t)(unix.Eventfd(5, unix.EFD_CLOEXEC))
	defer unix.Close(e)
	ep := must[int](t)(unix.EpollCreate1(unix.EPOLL_CLOEXEC))
	defer unix.Close(ep)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: 77, Pad: -1}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, e, &ev); err != nil {
		t.Fatal(err)
	}
	fds := must[[]int32](t)(d.FDs())
	if !slices.Contains(fds, int32(e)) || !slices.IsSorted(fds) {
		t.Errorf("descriptors %v", fds)
	}
	info := must[FDInfo](t)(d.FDInfo(int32(e)))
	if info.Eventfd == nil || info.Eventfd.Count != 5 || info.Flags&unix.O_CLOEXEC == 0 {
		t.Errorf("eventfd: %+v", info)
	}
	info = must[FDInfo](t)(d.FDInfo(int32(ep)))
	if len(info.Epoll) != 1 || info.Epoll[0].FD != int32(e) || info.Epoll[0].Data != 0xffffffff<<32|77 {
		t.Errorf("epoll: %+v", info)
	}
	if _, err := d.FDInfo(1 << 20); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrGone) {
		t.Errorf("a closed descriptor: %v", err)
	}
}

func TestGone(t *testing.T) {
	if _, err := Open(1<<22 + 1); !errors.Is(err, ErrGone) {
		t.Errorf("a number that no process has: %v", err)
	}
	if _, err := self(t).ThreadStat(1 << 22); !errors.Is(err, ErrGone) {
		t.Errorf("a number that no thread has: %v", err)
	}
	c := exec.Command("/proc/self/exe", "-test.run=^$")
	in := must[io.WriteCloser](t)(c.StdinPipe())
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	d := must[*Dir](t)(Open(PID(c.Process.Pid)))
	defer d.Close()
	in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"stat":    func() error { _, err := d.Stat(); return err },
		"smaps":   func() error { _, err := d.Smaps(); return err },
		"threads": func() error { _, err := d.Threads(); return err },
		"fd":      func() error { _, err := d.FDInfo(0); return err },
		"link":    func() error { _, err := d.Link("exe"); return err },
		"file":    func() error { _, err := d.ReadFile("environ"); return err },
		"open":    func() error { _, err := d.Open("pagemap", unix.O_RDONLY); return err },
	} {
		if err := f(); !errors.Is(err, ErrGone) {
			t.Errorf("%s of a reaped process: %v", name, err)
		}
	}
}

// TestParallel shares one Dir; -race looks at the buffers.
func TestParallel(t *testing.T) {
	d := self(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if _, err := d.Smaps(); err != nil {
					t.Error(err)
				}
				if s, err := d.Status(); err != nil || s.Tgid != d.PID() {
					t.Error(s, err)
				}
			}
		})
	}
	all.Wait()
}
