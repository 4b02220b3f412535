package restore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
)

// runner is a stopped process of which a batch may read from in.
type runner struct {
	task  *task
	th    *remote.Thread
	arena *remote.Arena
	in    io.Writer
	room  remote.Addr // where it reads to
}

// run has f play with some runners, as their tracer.
func run(t *testing.T, count int, f func(all []*runner) error) {
	t.Helper()
	testkit.RequireRoot(t)
	var all []*runner
	for i := range count {
		cmd := exec.Command("cat")
		in, err := cmd.StdinPipe()
		must(t, errors.Join(err, cmd.Start()))
		t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // it may have ended
		all = append(all, &runner{task: &task{pid: uint32(cmd.Process.Pid), comm: fmt.Sprint("runner ", i)}, in: in})
		testkit.Poll(t, "it waits for its input", func() bool { return all[i].in0() })
	}
	must(t, tracee.Run(func() error {
		for _, r := range all {
			if err := r.stop(); err != nil {
				return err
			}
		}
		return f(all)
	}))
}

// at returns a line of what the kernel tells of the process, or of a thread of Glis's.
func at(pid any, what string) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%v/%s", pid, what))
	return string(b)
}

// in0 tells whether it waits in read(2) of descriptor 0.
func (r *runner) in0() bool { return strings.HasPrefix(at(r.task.pid, "syscall"), "0 0x0 ") }

// stands tells whether it is stopped by its tracer.
func (r *runner) stands() bool { return strings.Contains(at(r.task.pid, "stat"), ") t ") }

func (r *runner) stop() error {
	pid := proc.PID(r.task.pid)
	r.th = &remote.Thread{Tgid: pid, TID: proc.TID(pid)}
	err := errors.Join(tracee.Seize(r.th.TID, linux.PTRACE_O_TRACESYSGOOD), tracee.Interrupt(r.th.TID))
	if err == nil {
		_, err = tracee.WaitTrap(r.th.TID)
	}
	if err == nil {
		r.th.Regs, err = tracee.Regs(r.th.TID)
	}
	if err == nil {
		r.th.Mask, err = tracee.Sigmask(r.th.TID)
	}
	if err != nil {
		return err
	}
	r.th.SetSignal(unix.SIGURG)
	d, err := proc.Open(pid)
	if err != nil {
		return err
	}
	defer d.Close()
	maps, err := d.Maps()
	for _, v := range maps {
		if v.Name == "[vdso]" && err == nil {
			var insn remote.Addr
			if insn, err = remote.UseVdso(r.th, remote.Addr(v.Start), remote.Addr(v.End), r.th); err == nil {
				r.arena, err = remote.MapArena(r.th, insn, 0, 1<<16)
			}
		}
	}
	return err
}

// reads is a batch that waits for n bytes of its input, one after the other.
func (r *runner) reads(n int) (*remote.Batch, remote.Call) {
	b := r.arena.Batch(r.th)
	r.room, _ = b.Alloc(n)
	var last remote.Call
	for i := range n {
		last = b.Call("read", unix.SYS_READ, 0, uint64(r.room)+uint64(i), 1)
	}
	return b, last
}

func (r *runner) say(text string) {
	if _, err := io.WriteString(r.in, text); err != nil {
		panic(err)
	}
}

// says notes what an error does not say. (The tracer is no goroutine that may end a test.)
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want %q", err, w)
		}
	}
}

// What is to be done when a batch has run is done while the next one runs, and that
// begins when the one before is over.
func TestRelay(t *testing.T) {
	run(t, 2, func(all []*runner) error {
		a, b := all[0], all[1]
		var r relay
		var told []string
		first, read := a.reads(1)
		from := a.room
		if err := r.next(a.task, first, func() error {
			told = append(told, "a")
			testkit.Poll(t, "the next batch runs", b.in0)
			n, err := read.Result()
			if err != nil || n != 1 {
				t.Errorf("the first batch has read %d bytes, %v", n, err)
			}
			if got, err := first.Output(from, 1); err != nil || string(got) != "x" {
				t.Errorf("it has read %q, %v", got, err)
			}
			b.say("y")
			return nil
		}); err != nil {
			return err
		}
		testkit.Poll(t, "the first batch runs", a.in0)
		tracer, done := unix.Gettid(), make(chan bool)
		go func() {
			defer close(done)
			testkit.Poll(t, "the engine waits for it", func() bool {
				return strings.Contains(at(tracer, "wchan"), "wait")
			})
			if !b.stands() {
				t.Error("the second batch runs before the first one has")
			}
			a.say("x")
		}()
		second, _ := b.reads(1)
		if err := r.next(b.task, second, func() error { told = append(told, "b"); return nil }); err != nil {
			return err
		}
		<-done
		if got := strings.Join(told, " "); got != "a" {
			t.Errorf("done before the end: %s", got)
		}
		// Another one of the same task, that is made ready while one of its runs.
		b.say("z")
		third, last := b.reads(1)
		if err := r.next(b.task, third, func() error { told = append(told, "c"); return nil }); err != nil {
			return err
		}
		if err := errors.Join(r.end(), r.end()); err != nil {
			return err
		}
		if n, err := last.Result(); err != nil || n != 1 {
			t.Errorf("the third batch has read %d bytes, %v", n, err)
		}
		if got := strings.Join(told, " "); got != "a b c" {
			t.Errorf("done in the end: %s", got)
		}
		return nil
	})
}

// An error of a batch, or of what follows it, names its task. Nothing new begins then, and nothing
// follows a batch that has failed.
func TestRelayFails(t *testing.T) {
	never := func() error { t.Error("it goes on after an error"); return nil }
	fails := func(r *runner) *remote.Batch {
		b := r.arena.Batch(r.th)
		b.Call("fchdir", unix.SYS_FCHDIR, 12345)
		return b
	}
	for name, how := range map[string]struct {
		batch func(r *runner) *remote.Batch
		die   bool
		want  string
	}{
		"call":  {fails, false, "fchdir"},
		"death": {func(r *runner) *remote.Batch { b, _ := r.reads(1); return b }, true, "in a batch"},
	} {
		for _, last := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, last %v", name, last), func(t *testing.T) {
				run(t, 2, func(all []*runner) (err error) {
					var r relay
					if err := r.next(all[0].task, how.batch(all[0]), never); err != nil {
						return err
					}
					if how.die {
						if err := unix.Kill(int(all[0].task.pid), unix.SIGKILL); err != nil {
							return err
						}
					}
					if last {
						err = r.end()
					} else {
						next, _ := all[1].reads(1)
						err = r.next(all[1].task, next, never)
					}
					says(t, err, all[0].task.String(), how.want)
					if how.die && !errors.Is(err, tracee.ErrGone) {
						t.Errorf("its death: %v", err)
					}
					if !all[1].stands() {
						t.Error("the next batch was begun")
					}
					return r.end() // nothing is left
				})
			})
		}
	}
}

// What follows a batch may fail while the next one runs, which is still the one to wait for. A batch
// that has no room leaves the one before to go on.
func TestRelayThenFails(t *testing.T) {
	run(t, 2, func(all []*runner) error {
		a, b := all[0], all[1]
		a.say("x")
		b.say("y")
		var r relay
		ends := 0
		first, _ := a.reads(1)
		if err := r.next(a.task, first, func() error { return errors.New("no luck") }); err != nil {
			return err
		}
		second, _ := b.reads(1)
		says(t, r.next(b.task, second, func() error { ends++; return nil }), a.task.String()+": no luck")
		large := a.arena.Batch(a.th)
		large.Bytes(make([]byte, 1<<17))
		if err := r.next(a.task, large, func() error { return nil }); !errors.Is(err, remote.ErrArenaFull) || ends != 0 {
			t.Errorf("a batch without room: %v, done %d", err, ends)
		}
		if err := r.end(); err != nil {
			return err
		}
		if ends != 1 {
			t.Errorf("what follows the second batch was done %d times", ends)
		}
		return r.end()
	})
}
