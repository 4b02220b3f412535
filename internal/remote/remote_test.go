package remote_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
)

// child starts a program that prints a line for every line it gets, so that a
// test can see whether it is alive and well.
func child(t *testing.T) (proc.PID, func(string) string) {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close(); cmd.Process.Kill(); cmd.Wait() })
	buf := make([]byte, 256)
	echo := func(s string) string {
		if _, err := in.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the child does not answer: %v", err)
		}
		return string(buf[:n])
	}
	if got := echo("hello"); got != "hello" {
		t.Fatalf("echo: %q", got)
	}
	return proc.PID(cmd.Process.Pid), echo
}

// stop seizes a single-threaded child.
func stop(pid proc.PID) (*remote.Thread, remote.Addr, error) {
	th := &remote.Thread{Tgid: pid, TID: proc.TID(pid)}
	if err := tracee.Seize(th.TID, linux.PTRACE_O_TRACESYSGOOD); err != nil {
		return nil, 0, err
	}
	if err := tracee.Interrupt(th.TID); err != nil {
		return nil, 0, err
	}
	if _, err := tracee.WaitTrap(th.TID); err != nil {
		return nil, 0, err
	}
	var err error
	if th.Regs, err = tracee.Regs(th.TID); err != nil {
		return nil, 0, err
	}
	if th.Mask, err = tracee.Sigmask(th.TID); err != nil {
		return nil, 0, err
	}
	if th.XState, err = tracee.XState(th.TID, make([]byte, 16<<10)); err == nil {
		th.XState = arch.TrimXState(th.XState)
	} else {
		return nil, 0, err
	}
	th.SetSignal(unix.SIGURG)
	start, end, err := vdso(pid)
	if err != nil {
		return nil, 0, err
	}
	insn, err := remote.UseVdso(th, start, end, th)
	return th, insn, err
}

func vdso(pid proc.PID) (start, end remote.Addr, err error) {
	d, err := proc.Open(pid)
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	maps, err := d.Maps()
	if err != nil {
		return 0, 0, err
	}
	for _, v := range maps {
		if v.Name == "[vdso]" {
			return remote.Addr(v.Start), remote.Addr(v.End), nil
		}
	}
	return 0, 0, fmt.Errorf("no vdso")
}

func needRoot(t *testing.T) {
	testkit.RequireRoot(t)
}

// TestBatch runs calls whose results are known, chains one result into a later
// call, and checks that the child is as it was afterwards.
func TestBatch(t *testing.T) {
	needRoot(t)
	pid, echo := child(t)
	before := snapshot(t, pid)
	err := tracee.Run(func() error {
		th, insn, err := stop(pid)
		if err != nil {
			return err
		}
		a, err := remote.MapArena(th, insn, 0, 1<<16)
		if err != nil {
			return err
		}
		b := a.Batch(th)
		getpid := b.Call("getpid", unix.SYS_GETPID)
		bad := b.Try("close", unix.SYS_CLOSE, ^uint64(0))
		_, _ = b.Alloc(16)
		// fcntl gets its descriptor from memfd_create's result.
		open := b.Call("memfd_create", unix.SYS_MEMFD_CREATE, uint64(b.String("x")), 0)
		flags := b.Call("fcntl F_GETFD", unix.SYS_FCNTL, ^uint64(0), unix.F_GETFD)
		open.Feed(flags, 0)
		if err := b.Run(); err != nil {
			return err
		}
		if v, err := getpid.Result(); err != nil || v != int64(pid) {
			t.Errorf("getpid: %d, %v", v, err)
		}
		if _, err := bad.Result(); err != unix.EBADF {
			t.Errorf("close(-1): %v", err)
		}
		fd, _ := open.Result()
		if v, err := flags.Result(); err != nil || v != 0 {
			t.Errorf("flags of the descriptor that the call before gave: %d, %v", v, err)
		}
		b = a.Batch(th)
		b.Call("close", unix.SYS_CLOSE, uint64(fd))
		fail := b.Call("fchdir", unix.SYS_FCHDIR, 12345)
		b.Call("exit_group", unix.SYS_EXIT_GROUP, 1) // never
		if err := b.Run(); err == nil || !strings.Contains(err.Error(), "fchdir") {
			t.Errorf("a failing call: %v", err)
		}
		if _, err := fail.Result(); err != unix.EBADF {
			t.Errorf("fchdir: %v", err)
		}
		if err := a.Unmap(th, insn); err != nil {
			return err
		}
		return th.Release()
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := echo("again"); got != "again" {
		t.Errorf("echo after the batch: %q", got)
	}
	if after := snapshot(t, pid); after != before {
		t.Errorf("the child changed:\n%s\nwant\n%s", after, before)
	}
}

// TestRetry has a call that fails made again once what it lacked is there: what was before
// it is not, and what comes behind it is made.
func TestRetry(t *testing.T) {
	needRoot(t)
	pid, _ := child(t)
	file := filepath.Join(t.TempDir(), "file")
	err := tracee.Run(func() error {
		th, insn, err := stop(pid)
		if err != nil {
			return err
		}
		a, err := remote.MapArena(th, insn, 0, 1<<16)
		if err != nil {
			return err
		}
		b := a.Batch(th)
		once := b.Call("memfd_create", unix.SYS_MEMFD_CREATE, uint64(b.String("x")), 0)
		b.Call("faccessat", unix.SYS_FACCESSAT, ^uint64(99), uint64(b.String(file)), 0)
		next := b.Call("memfd_create", unix.SYS_MEMFD_CREATE, uint64(b.String("y")), 0)
		asked := 0
		b.Retry(func(i int, err error) error {
			if i != 1 || err != unix.ENOENT {
				t.Errorf("asked for call %d: %v", i, err)
				return err
			}
			if asked++; asked < 3 {
				return nil
			}
			return os.WriteFile(file, nil, 0o644)
		})
		err = b.Run()
		before, _ := once.Result()
		if v, e := next.Result(); err != nil || e != nil || v != before+1 || asked != 3 {
			t.Errorf("asked %d times; descriptors %d before and %d behind, %v; %v", asked, before, v, e, err)
		}
		return errors.Join(a.Unmap(th, insn), th.Release())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBatchesInTurn has one batch run while the next one is built, in memory of the engine
// and in places of the arena that earlier ones had.
func TestBatchesInTurn(t *testing.T) {
	needRoot(t)
	pid, _ := child(t)
	err := tracee.Run(func() error {
		th, insn, err := stop(pid)
		if err != nil {
			return err
		}
		a, err := remote.MapArena(th, insn, 0, 1<<16)
		if err != nil {
			return err
		}
		var memory [2]remote.Memory
		var before *remote.Batch
		var top uint64
		for i := range 9 {
			if i > 0 {
				a.Rewind(top + uint64(i%2)<<14)
			}
			b := a.BatchIn(th, &memory[i%2])
			for range i {
				b.Call("getpid", unix.SYS_GETPID)
			}
			open := b.Call("memfd_create", unix.SYS_MEMFD_CREATE, uint64(b.String(strings.Repeat("x", i))), 0)
			done := b.Call("close", unix.SYS_CLOSE, ^uint64(0))
			open.Feed(done, 0)
			if size := b.Size(); size < (i+2)*arch.EntrySize || size > 1<<14 {
				t.Errorf("batch %d has %d bytes", i, size)
			}
			if err := b.Seal(); err != nil {
				return err
			}
			if before != nil {
				if err := before.Wait(); err != nil {
					return err
				}
			}
			if err := b.Start(); err != nil {
				return err
			}
			if before = b; i == 0 {
				top = a.Top()
			}
		}
		if err := before.Wait(); err != nil {
			return err
		}
		if err := a.Unmap(th, insn); err != nil {
			return err
		}
		return th.Release()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTracerDies lets the tracer's thread end while a batch is under way: the
// child must go on from where it was, with its own registers and mask.
func TestTracerDies(t *testing.T) {
	needRoot(t)
	for i := range 50 {
		pid, echo := child(t)
		err := tracee.Run(func() error {
			th, insn, err := stop(pid)
			if err != nil {
				return err
			}
			a, err := remote.MapArena(th, insn, 0, 1<<20)
			if err != nil {
				return err
			}
			b := a.Batch(th)
			for range i * 20 {
				b.Call("getpid", unix.SYS_GETPID)
			}
			if err := b.Start(); err != nil {
				return err
			}
			if i%2 == 0 {
				return b.Wait()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := echo("alive"); got != "alive" {
			t.Fatalf("echo after the tracer's death: %q", got)
		}
		if s := status(t, pid, "SigBlk"); s != "0000000000000000" {
			t.Errorf("signal mask %s", s)
		}
	}
}

func status(t *testing.T, pid proc.PID, key string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if k, v, ok := strings.Cut(string(line), ":"); ok && k == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func snapshot(t *testing.T, pid proc.PID) string {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(maps) + status(t, pid, "SigBlk") + status(t, pid, "TracerPid")
}
