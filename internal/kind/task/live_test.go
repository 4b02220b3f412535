package task

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

// start runs a C program of testdata until it says that it is ready.
func start(t testing.TB, src string, args ...string) proc.PID {
	t.Helper()
	testkit.RequireRoot(t)
	path := testkit.BuildC(t, "testdata/"+src)
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started, over := make(chan error), make(chan struct{})
	go func() { // a thread of its own: at its parent's end, which is one thread's, a target may get a signal (PR_SET_PDEATHSIG)
		runtime.LockOSThread()
		started <- cmd.Start()
		<-over
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait(); close(over) })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s says %q, %v", src, line, err)
	}
	return proc.PID(cmd.Process.Pid)
}

// awaitIn waits until a process sleeps in one of these system calls.
func awaitIn(t *testing.T, pid proc.PID, nrs ...int64) {
	t.Helper()
	d, err := proc.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	awaitThread(t, d, proc.TID(pid), nrs...)
}

func awaitThread(t *testing.T, d *proc.Dir, tid proc.TID, nrs ...int64) {
	t.Helper()
	for {
		s, err := d.Thread(tid).Syscall()
		if err != nil {
			t.Fatal(err)
		}
		if !s.Running && slices.Contains(nrs, s.Nr) {
			return
		}
		runtime.Gosched()
	}
}

// freeze stops a process the way a dump does. Call it on the tracer's thread.
func freeze(pid proc.PID) (*scan.Task, error) {
	d, err := proc.Open(pid)
	if err != nil {
		return nil, err
	}
	task := &scan.Task{PID: pid, VPID: scan.VPID(pid), Dir: d}
	tids, err := d.Threads()
	if err != nil {
		return nil, err
	}
	for _, tid := range tids {
		th := &scan.Thread{Thread: remote.Thread{Tgid: pid, TID: tid}, Task: task, VTID: scan.VPID(tid)}
		if err := errors.Join(tracee.Seize(tid, linux.PTRACE_O_TRACESYSGOOD), tracee.Interrupt(tid)); err != nil {
			return nil, err
		}
		if _, err := tracee.WaitTrap(tid); err != nil {
			return nil, err
		}
		task.Threads = append(task.Threads, th)
	}
	if err := look(task); err != nil {
		return nil, err
	}
	for _, th := range task.Threads {
		if err := FixRseq(th); err != nil {
			return nil, err
		}
	}
	insn, err := syscallIn(d)
	if err != nil {
		return nil, err
	}
	task.Insn = insn
	task.Arena, err = remote.MapArena(&task.Leader().Thread, insn, 0, 4<<20)
	return task, err
}

// look reads what the facets want to know of a stopped process.
func look(task *scan.Task) (err error) {
	if task.Stat, err = task.Dir.Stat(); err != nil {
		return err
	}
	if task.Status, err = task.Dir.Status(); err != nil {
		return err
	}
	for _, th := range task.Threads {
		if th.Regs, err = tracee.Regs(th.TID); err != nil {
			return err
		}
		if th.Mask, err = tracee.Sigmask(th.TID); err != nil {
			return err
		}
		if th.XState, err = tracee.XState(th.TID, make([]byte, 16<<10)); err != nil {
			return err
		}
		th.XState = arch.TrimXState(th.XState)
		if th.Rseq, err = tracee.Rseq(th.TID); err != nil {
			return err
		}
		status, err := task.Dir.ThreadStatus(th.TID)
		if err != nil {
			return err
		}
		th.Status = &status
		th.SetSignal(unix.SIGURG)
	}
	return nil
}

func pending(task *scan.Task) (err error) {
	for _, th := range task.Threads {
		if th.Pending, err = tracee.Pending(th.TID, false, forever); err != nil {
			return err
		}
	}
	task.Leader().Shared, err = tracee.Pending(task.Leader().TID, true, forever)
	return err
}

func syscallIn(d *proc.Dir) (remote.Addr, error) {
	maps, err := d.Maps()
	if err != nil {
		return 0, err
	}
	for _, v := range maps {
		if v.Name == "[vdso]" {
			return remote.FindSyscall(d.PID(), remote.Addr(v.Start), remote.Addr(v.End))
		}
	}
	return 0, errors.New("no vdso")
}

// ask dumps all facets of a frozen process.
func ask(task *scan.Task) ([]*core.CoreEntry, error) {
	var out []*core.CoreEntry
	for i, th := range task.Threads {
		facets := ThreadFacets()
		if i == 0 {
			facets = append(ProcessFacets(), facets...)
		}
		q := &kind.Question{Env: &kind.DumpEnv{Tree: &scan.Tree{}}, Task: task, Thread: th, Batch: task.Arena.Batch(&th.Thread)}
		var answers []kind.Answer
		for _, f := range facets {
			a, err := f.Dump(q)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name(), err)
			}
			if a != nil {
				answers = append(answers, a)
			}
		}
		if err := errors.Join(q.Batch.Run(), pending(task)); err != nil {
			return nil, err
		}
		c := CoreHead(th)
		for _, a := range answers {
			if err := a(c); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// release lets a process go on.
func release(task *scan.Task) error {
	defer task.Dir.Close()
	errs := []error{task.Arena.Unmap(&task.Leader().Thread, task.Insn)}
	for _, th := range task.Threads {
		Thaw(th, Deliverable(th))
		errs = append(errs, th.Release())
	}
	return errors.Join(errs...)
}

// forever is for what would ask whether there is still time.
func forever() error { return nil }
