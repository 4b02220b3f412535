package vmamem

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

// childKey is the variable of the environment that makes the test a child with
// that many mappings, or all samples if it is "samples".
const childKey = "GLIS_VMAMEM_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childKey); what != "" {
		if err := beChild(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beChild makes mappings and stops.
func beChild(what string) error {
	n, err := strconv.Atoi(what)
	switch {
	case err == nil:
		err = mapMany(n)
	case what == sealed:
		err = mapSealed()
	default:
		mapSamples()
		err = mapOdd()
	}
	if err != nil {
		return err
	}
	if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
		return err
	}
	for { // another thread may be the first that stops
		_ = unix.Pause()
	}
}

const (
	strange = "samples"
	sealed  = "sealed"
)

func mapMany(n int) error {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, n*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := 0; i < n; i += 2 {
		p := b[i*page : (i+1)*page]
		if err := unix.Mprotect(p, unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return err
		}
		p[0] = 1
	}
	return nil
}

// mapOdd makes mappings of files, and one that was given much advice.
func mapOdd() error {
	for _, s := range []struct {
		prot, flags int
		file        string
	}{
		{unix.PROT_READ, unix.MAP_SHARED, "/proc/self/exe"},
		{unix.PROT_EXEC, unix.MAP_PRIVATE, "/proc/self/exe"},
		{unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE, "/proc/self/exe"},
		{unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED, "/dev/zero"},
		{unix.PROT_NONE, unix.MAP_PRIVATE, "/dev/zero"},
	} {
		f, err := os.Open(s.file)
		if err != nil {
			return err
		}
		_, err = unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), s.prot, s.flags)
		if f.Close(); err != nil && !errors.Is(err, unix.EACCES) {
			return err
		}
	}
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	for _, a := range []int{unix.MADV_DONTFORK, unix.MADV_DONTDUMP, unix.MADV_RANDOM, unix.MADV_HUGEPAGE, unix.MADV_MERGEABLE} {
		_ = unix.Madvise(b, a)
	}
	return errors.Join(err, unix.Mlock(b))
}

// mapSealed makes a mapping with a flag that is not learnt: what is sealed stays.
// It is found by its size.
func mapSealed() error {
	const size = 13 << 20
	if _, err := unix.Mmap(-1, 0, size, unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return err
	}
	d, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return err
	}
	vmas, err := d.Maps()
	for i := range vmas {
		if vmas[i].Len() == size {
			_, _, e := unix.Syscall(unix.SYS_MSEAL, uintptr(vmas[i].Start), size, 0)
			if e != 0 {
				return e
			}
		}
	}
	return err
}

// child starts a child and waits until it has stopped.
func child(t testing.TB, what string) *proc.Dir {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), childKey+"="+what)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	var ws unix.WaitStatus
	_, err := unix.Wait4(c.Process.Pid, &ws, unix.WUNTRACED, nil)
	if what == sealed && ws.Exited() && testkit.Kernel(t).Less(testkit.Version{Major: 6, Minor: 10}) {
		t.Skip("mseal(2) needs Linux 6.10")
	}
	if err != nil || !ws.Stopped() {
		t.Fatalf("the child with %s ended with %d: %v", what, ws.ExitStatus(), err)
	}
	d, err := proc.Open(proc.PID(c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func open(t testing.TB) *Reader {
	t.Helper()
	r, err := Open()
	testkit.KernelMemory(t, err)
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestChildren(t *testing.T) {
	r := open(t)
	for _, what := range []string{strange, "2", "1364", "1500", "10000", sealed} {
		for _, prepared := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", what, prepared), func(t *testing.T) {
				d := child(t, what)
				if prepared {
					if err := errors.Join(r.Prepare(d.PID()), r.Prepare(d.PID())); err != nil {
						t.Fatal(err)
					}
				}
				same(t, r, d, what != sealed)
				same(t, r, d, what != sealed)
			})
		}
	}
}

// same compares a process that stands still with its smaps.
func same(t *testing.T, r *Reader, d *proc.Dir, fast bool) {
	t.Helper()
	want, err := Smaps(d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.VMAs(d)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v differs", diff(got, want))
	}
	// What can only be executed has a protection key, on CPUs with such.
	fast = fast && !slices.ContainsFunc(want, func(v proc.VMA) bool { return v.Pkey != 0 })
	if got, err = d.Maps(); err != nil {
		t.Fatal(err)
	}
	if err := r.Flags(d.PID(), got); (err == nil) != fast || err != nil && !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

func diff(got, want []proc.VMA) string {
	for i := range min(len(got), len(want)) {
		if !reflect.DeepEqual(got[i], want[i]) {
			return fmt.Sprintf("%+v from %+v", got[i], want[i])
		}
	}
	return fmt.Sprintf("number %d from %d", len(got), len(want))
}

// All processes of the machine, most of which do not stand still: those are
// compared that have the same smaps before and after.
func TestEverybody(t *testing.T) {
	r := open(t)
	pids, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	compared, fast := 0, 0
	for _, e := range pids {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		pid := proc.PID(n)
		d, err := proc.Open(pid)
		if err != nil {
			continue
		}
		before, err1 := d.Smaps()
		got, err2 := r.VMAs(d)
		after, err3 := d.Smaps()
		if errors.Join(err1, err2, err3) == nil && reflect.DeepEqual(before, after) {
			compared++
			if !reflect.DeepEqual(got, before) {
				t.Errorf("process %d: %v differs", pid, diff(got, before))
			}
			if err := r.Flags(pid, got); err == nil {
				fast++
			} else {
				t.Logf("%v", err)
			}
		}
		d.Close()
	}
	t.Logf("%d processes stood still, %d of them were read without smaps", compared, fast)
	if compared == 0 {
		t.Error("nobody stands still")
	}
}

func TestFlagsRefuses(t *testing.T) {
	r, d := open(t), child(t, "20")
	vmas, err := d.Maps()
	if err != nil {
		t.Fatal(err)
	}
	moved := append([]proc.VMA(nil), vmas...)
	moved[3].End++
	more := append(append([]proc.VMA(nil), vmas...), proc.VMA{Start: 1, End: 2})
	tests := []struct {
		name string
		pid  proc.PID
		in   []proc.VMA
	}{
		{"one is missing", d.PID(), vmas[1:]},
		{"one has moved", d.PID(), moved},
		{"one too many", d.PID(), more},
		{"nobody", 1 << 22, vmas},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := r.Flags(tt.pid, tt.in); !errors.Is(err, ErrUnavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
	if err := r.Flags(d.PID(), nil); err != nil {
		t.Error(err)
	}
	if _, err := (*Reader)(nil).VMAs(d); err != nil {
		t.Error(err)
	}
}

// Flags is for several goroutines.
func TestParallel(t *testing.T) {
	r, d := open(t), child(t, "3000")
	want, err := d.Smaps()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const n = 4
	for range n {
		go func() {
			_ = r.Prepare(d.PID())
			got, err := r.VMAs(d)
			if err == nil && !reflect.DeepEqual(got, want) {
				err = errors.New(diff(got, want))
			}
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		r, err := Open()
		if err != nil {
			b.Skip(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead compares the ways; Go's own mappings come on top of the number.
func BenchmarkRead(b *testing.B) {
	r := open(b)
	for _, n := range []string{"2", "1000", "10000"} {
		d := child(b, n)
		vmas, err := d.Maps()
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, fn func() error) {
			b.Run(fmt.Sprintf("%s/%d", name, len(vmas)), func(b *testing.B) {
				for b.Loop() {
					if err := fn(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("smaps", func() error { _, err := d.Smaps(); return err })
		run("maps", func() error { _, err := d.Maps(); return err })
		run("flags", func() error { return r.Flags(d.PID(), vmas) })
		run("vmas", func() error { _, err := r.VMAs(d); return err })
		b.Run(fmt.Sprintf("prepared/%d", len(vmas)), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				if err := r.Prepare(d.PID()); err != nil {
					b.Skip(err) // there are as many as descriptors
				}
				b.StartTimer()
				if err := r.Flags(d.PID(), vmas); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
