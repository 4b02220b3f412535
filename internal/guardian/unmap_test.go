package guardian

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
)

// What was mapped for the engine is told from what is the task's own: by where it is,
// and by what may be done with it.
func TestLeftovers(t *testing.T) {
	const r, w, x = unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC
	areas := []area{{0x10000, 0x8000}}
	vma := func(start, end uint64, prot int) proc.VMA {
		return proc.VMA{Start: start, End: end, Prot: prot}
	}
	file := vma(0x10000, 0x18000, r|w|x)
	file.Inode = 7
	for _, c := range []struct {
		name string
		vmas []proc.VMA
		want int
	}{
		{"nothing", nil, 0},
		{"elsewhere", []proc.VMA{vma(0x20000, 0x28000, r|w|x)}, 0},
		{"all of it", []proc.VMA{vma(0x10000, 0x18000, r|w|x)}, 1},
		{"joined with others", []proc.VMA{vma(0x8000, 0x20000, r|w|x)}, 1},
		{"a part of it", []proc.VMA{vma(0x10000, 0x12000, r|w|x)}, 0},
		{"a file", []proc.VMA{file}, 0},
		{"not yet apart", []proc.VMA{vma(0x10000, 0x18000, r|x)}, 1},
		{"apart", []proc.VMA{vma(0x10000, 0x11000, r|x), vma(0x11000, 0x18000, r|w)}, 1},
		{"apart, more code", []proc.VMA{vma(0x10000, 0x12000, r|x), vma(0x12000, 0x18000, r|w)}, 0},
		{"apart, more data", []proc.VMA{vma(0x10000, 0x11000, r|x), vma(0x11000, 0x19000, r|w)}, 0},
		{"code of the task's", []proc.VMA{vma(0x8000, 0x18000, r|x)}, 0},
		{"data of the task's", []proc.VMA{vma(0x10000, 0x18000, r|w)}, 0},
	} {
		if got := leftovers(1, areas, c.vmas); len(got) != c.want {
			t.Errorf("%s: %d, want %d", c.name, len(got), c.want)
		}
	}
}

// A thread that was told to map the memory of the engine, whose tracer died, and that has
// not run since, maps it later: nobody may have gone until then.
func TestOnItsWayToMap(t *testing.T) {
	v := startVictim(t, "sleep", "1000")
	v.left(t, (*victim).stopped, (*victim).mapping)
	v.busy(t)
	if err := unix.Kill(int(v.task.PID), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	v.relieved(t)
}

// What the engine leaves ends with a signal of which a program may have a handler. It
// comes back from that to where the signal came, which must be there still.
func TestComesBackFromHandler(t *testing.T) {
	program := testkit.BuildC(t, "testdata/handler.c")
	for name, steps := range map[string][]func(*victim) error{
		"mapping": {(*victim).mapping},
		"a batch": {(*victim).mapping, (*victim).mapped, (*victim).batch},
	} {
		for _, args := range [][]string{nil, {"a stack of its own"}} {
			t.Run(fmt.Sprint(name, args), func(t *testing.T) {
				v := startVictim(t, program, args...)
				v.says(t, 'x')
				v.left(t, steps...)
				v.says(t, 'h')
				v.busy(t)
				v.goOn(t)
				v.relieved(t)
				if err := unix.Kill(int(v.task.PID), unix.SIGURG); err != nil {
					t.Fatal(err)
				}
				v.says(t, 'h')
				v.goOn(t)
			})
		}
	}
}

// A thread that executes a program for long keeps the guardian no longer than its time.
// Others are tried with even if that is over.
func TestGivesUpWhileItExecutes(t *testing.T) {
	program, let := testkit.Leased(t)
	v := startVictim(t, testkit.BuildC(t, "../tracee/testdata/exec.c"), program)
	stuck := time.AfterFunc(testkit.Patience, func() { unix.Kill(int(v.task.PID), unix.SIGKILL) }) //nolint:errcheck // it is there
	v.says(t, 1)
	if _, err := v.in.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	testkit.Poll(t, "the program is about to be executed", func() bool {
		tids, _ := v.dir.Threads()
		at, _ := v.dir.Thread(tids[len(tids)-1]).ReadFile("wchan")
		return string(at) == testkit.WaitsToExecute
	})
	err := tracee.Run(func() error { return v.task.relieve(v.areas, time.Now()) })
	if !errors.Is(err, unix.EINTR) {
		t.Errorf("it can't be seized now, and says %v", err)
	}
	if !stuck.Stop() {
		t.Fatal("it waits for ever")
	}
	let()
	testkit.Poll(t, "the program is executed", func() bool {
		comm, err := v.dir.Comm()
		return err == nil && comm == "script"
	})
}

// victim is a process of one thread whose tracer dies.
type victim struct {
	in    io.Writer
	out   io.Reader
	task  Task
	dir   *proc.Dir
	areas []area

	th    *remote.Thread
	insn  remote.Addr
	arena *remote.Arena
}

func startVictim(t *testing.T, program string, args ...string) *victim {
	t.Helper()
	testkit.RequireRoot(t)
	cmd := exec.Command(program, args...)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // it is there, and killed
	v := &victim{in: in, out: out, areas: []area{{0x10000000, 0x8000}}}
	pid := proc.PID(cmd.Process.Pid)
	var err error
	if v.dir, err = proc.Open(pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.dir.Close() })
	st, err := v.dir.Stat()
	if err != nil {
		t.Fatal(err)
	}
	v.task = Task{PID: pid, Start: st.StartTime}
	return v
}

// left stops it, takes these steps, and leaves it to the end of its tracer.
func (v *victim) left(t *testing.T, steps ...func(*victim) error) {
	t.Helper()
	err := tracee.RunAndLeave(func() (bool, error) {
		err := v.stop()
		for i := 0; err == nil && i < len(steps); i++ {
			err = steps[i](v)
		}
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (v *victim) stop() error {
	h := hold(v.task.PID, v.dir, testkit.Patience)
	defer h.end.Stop()
	if err := h.stop(); err != nil {
		return err
	}
	vmas, err := v.dir.Maps()
	if err != nil {
		return err
	}
	v.th = h.threads[0]
	if v.th.XState, err = tracee.XState(v.th.TID, make([]byte, 16<<10)); err != nil {
		return err
	}
	v.th.XState = arch.TrimXState(v.th.XState)
	v.insn, err = h.insn(v.th, vmas)
	return err
}

// stopped has it stop by a signal as soon as it runs.
func (v *victim) stopped() error { return unix.Kill(int(v.task.PID), unix.SIGSTOP) }

func (v *victim) mapping() (err error) {
	v.arena, err = remote.StartArena(v.th, v.insn, remote.Addr(v.areas[0].base), v.areas[0].size)
	return err
}

func (v *victim) mapped() error { return v.arena.FinishMap(v.th, v.insn) }

func (v *victim) batch() error {
	b := v.arena.Batch(v.th)
	b.Call("getpid", unix.SYS_GETPID)
	return b.Start()
}

func (v *victim) says(t *testing.T, want byte) {
	t.Helper()
	var b [1]byte
	if _, err := io.ReadFull(v.out, b[:]); err != nil || b[0] != want {
		t.Fatalf("it says %q, %v, want %q", b, err, want)
	}
}

// goOn ends what it does in its handler.
func (v *victim) goOn(t *testing.T) {
	t.Helper()
	if _, err := v.in.Write([]byte("c")); err != nil {
		t.Fatal(err)
	}
	v.says(t, 'c')
}

// busy checks that nothing is taken away now.
func (v *victim) busy(t *testing.T) {
	t.Helper()
	err := tracee.Run(func() error { return v.task.tryRelieve(v.areas, time.Now()) })
	if !errors.Is(err, remote.ErrOnItsWay) && !errors.Is(err, errBusy) {
		t.Errorf("it has to come back yet to what is to be taken away, and nobody waits for that: %v", err)
	}
}

func (v *victim) relieved(t *testing.T) {
	t.Helper()
	err := tracee.Run(func() error { return v.task.relieve(v.areas, time.Now().Add(testkit.Patience)) })
	if err != nil {
		t.Error(err)
	}
	vmas, err := v.dir.Maps()
	if err != nil || len(leftovers(v.task.PID, v.areas, vmas)) > 0 {
		t.Errorf("memory is left: %v, %v", vmas, err)
	}
	testkit.Unharmed(t, int(v.task.PID))
}
