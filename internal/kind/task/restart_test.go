package task

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/ns"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
)

// Calls of x86-64 that other architectures lack, and for which calls.c is
// written.
const sysPoll, sysPause, sysEpollWait = 7, 34, 232

// TestInterruptedCalls stops a program in all sorts of system calls, twice,
// since the kernel tells less about a call that was interrupted before.
func TestInterruptedCalls(t *testing.T) {
	const again = true // made anew
	tests := []struct {
		name  string
		nr    int64
		again bool
		rest  bool // its rest of time is known
	}{
		{"nanosleep", unix.SYS_NANOSLEEP, false, true},
		{"clock_nanosleep", unix.SYS_CLOCK_NANOSLEEP, false, true},
		{"norest", unix.SYS_NANOSLEEP, again, false},
		{"poll", sysPoll, again, false},
		{"polltime", sysPoll, again, false},
		{"futex", unix.SYS_FUTEX, again, false},
		{"read", unix.SYS_READ, again, false},
		{"recvtime", unix.SYS_RECVFROM, again, false},
		{"pause", sysPause, again, false},
		{"epoll", sysEpollWait, again, false},
		{"sigwait", unix.SYS_RT_SIGTIMEDWAIT, again, false},
		{"epolltime", sysEpollWait, false, false},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			pid := start(t, "calls.c", x.name)
			for range 2 {
				awaitIn(t, pid, x.nr, arch.SysRestart)
				c := dumpOnce(t, pid)
				g := c.ThreadInfo.Gpregs
				if made := g.GetAx() == uint64(x.nr); made != x.again {
					t.Errorf("made anew: %v, want %v (ax %d)", made, x.again, int64(g.GetAx()))
				}
				if !x.again && int64(g.GetAx()) != -int64(unix.EINTR) {
					t.Errorf("ax is %d, want EINTR for criu", int64(g.GetAx()))
				}
				r := restartOf(t, c)
				if rest := r != nil && r.Code == arch.RestartBlock; rest != x.rest {
					t.Errorf("rest %+v", r)
				}
				if x.again && (r == nil || r.Nr != uint64(x.nr)) {
					t.Errorf("%+v: the kernel is not to decide", r)
				}
				if x.rest && (r.Nr != uint64(x.nr) || r.Rest.Sec < 3000 || r.Rest.Sec > 3600) {
					t.Errorf("rest %+v of an hour, in call %d", r, x.nr)
				}
				switch x.name {
				case "epolltime":
					return // EINTR, as after SIGSTOP and SIGCONT: it has ended
				case "norest":
					return // the second time it could be a poll, see arch.BlockCall
				}
			}
		})
	}
}

func restartOf(t *testing.T, c *core.CoreEntry) *restart {
	t.Helper()
	x, err := ReadExtra(c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := getRestart(x)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dumpOnce returns the leader's core image and lets the process go on.
func dumpOnce(t *testing.T, pid proc.PID) *core.CoreEntry {
	t.Helper()
	var cores []*core.CoreEntry
	err := tracee.Run(func() error {
		task, err := freeze(pid)
		if err != nil {
			return err
		}
		if cores, err = ask(task); err != nil {
			return err
		}
		return release(task)
	})
	if err != nil {
		t.Fatal(err)
	}
	return cores[0]
}

// TestRearm takes a sleeping thread's restart block away by having it make
// system calls of its own, and gives it one back from the image.
func TestRearm(t *testing.T) {
	for name, nr := range map[string]int64{"nanosleep": unix.SYS_NANOSLEEP, "clock_nanosleep": unix.SYS_CLOCK_NANOSLEEP} {
		t.Run(name, func(t *testing.T) {
			pid := start(t, "calls.c", name)
			awaitIn(t, pid, nr)
			before := restartOf(t, dumpOnce(t, pid))
			awaitIn(t, pid, nr, arch.SysRestart)
			wakeFromImage(t, pid, nil)
			// It must be asleep again, for what was left.
			awaitIn(t, pid, arch.SysRestart)
			after := restartOf(t, dumpOnce(t, pid))
			if before == nil || after == nil || after.Rest.Nano() > before.Rest.Nano() || after.Rest.Sec < 3000 {
				t.Errorf("left before %+v, after %+v", before, after)
			}
			awaitIn(t, pid, arch.SysRestart)
		})
	}
}

// TestRest: of a call that tells nobody what is left of its time the kernel's memory does,
// and it goes on for that. The program's own memory is as before.
func TestRest(t *testing.T) {
	r, err := kmem.Open(BlockNames()...)
	testkit.KernelMemory(t, err)
	defer r.Close()
	see := func(task *scan.Task) error {
		pidfd, err := fd.Task(int(task.PID))
		if err != nil {
			return err
		}
		defer pidfd.Close()
		b, err := ReadBlock(r, pidfd.Int())
		now, err2 := ns.HostClocks()
		if task.Leader().Block = b; b != nil {
			b.Monotonic, b.Boottime = now.Monotonic.Nano(), now.Boottime.Nano()
		}
		return errors.Join(err, err2)
	}
	for name, nr := range map[string]int64{"norest": unix.SYS_NANOSLEEP, "polltime": sysPoll, "futex": unix.SYS_FUTEX} {
		t.Run(name, func(t *testing.T) {
			pid := start(t, "calls.c", name)
			awaitIn(t, pid, nr)
			left := int64(3600)
			for range 3 {
				w := wakeWith(t, pid, see, func(w *Wake) {
					if w.restart == nil || w.restart.Nr != uint64(nr) || w.restart.Rest.Sec > left || w.restart.Rest.Sec < left-600 {
						t.Errorf("rest %+v of %d s", w.restart, left)
						return
					}
					left /= 2
					w.restart.Rest.Sec = left
				})
				if code, ok := arch.RestartCode(&w.Regs); !ok || code != arch.RestartBlock {
					t.Errorf("code %d, %v", code, ok)
				}
				awaitIn(t, pid, arch.SysRestart)
			}
			if name != "polltime" {
				return
			}
			var was [8]byte // struct pollfd: a descriptor, and what is waited for
			wakeWith(t, pid, see, func(w *Wake) {
				if err := remote.ReadFull(pid, remote.Addr(arch.CallArgs(&w.Regs)[0]), was[:]); err != nil {
					t.Error(err)
				}
			})
			if was[0] != 3 || was[4] != unix.POLLIN {
				t.Errorf("it waits for %v", was)
			}
		})
	}
}

// wakeFromImage does what a restore does: everything from the core image, the
// arena taken away by the thread itself.
func wakeFromImage(t *testing.T, pid proc.PID, frozen func(*scan.Task) error) (w *Wake) {
	t.Helper()
	return wakeWith(t, pid, frozen, func(*Wake) {})
}

// readWake is ReadWake, which tells what is missing.
func readWake(c *core.CoreEntry, x kind.Extra) (*Wake, error) {
	whole := c.ThreadCore
	c.ThreadCore = nil
	if _, err := ReadWake(c, x); err == nil || !strings.Contains(err.Error(), "no thread_core") {
		return nil, fmt.Errorf("without what is said of the thread: %v", err)
	}
	c.ThreadCore = whole
	return ReadWake(c, x)
}

// wakeWith is wakeFromImage of an image that edit has changed.
func wakeWith(t *testing.T, pid proc.PID, frozen func(*scan.Task) error, edit func(*Wake)) (w *Wake) {
	t.Helper()
	err := tracee.Run(func() error {
		task, err := freeze(pid)
		if err != nil {
			return err
		}
		defer task.Dir.Close()
		if frozen != nil {
			if err := frozen(task); err != nil {
				return err
			}
		}
		cores, err := ask(task)
		if err != nil {
			return err
		}
		x, err := ReadExtra(cores[0])
		if err != nil {
			return err
		}
		if w, err = readWake(cores[0], x); err != nil {
			return err
		}
		edit(w)
		th := &task.Leader().Thread
		b := task.Arena.Batch(th)
		// A poll of no time leaves no restart block of a sleep behind.
		b.Call("sched_yield", unix.SYS_SCHED_YIELD)
		w.Prepare(b)
		if err := b.Run(); err != nil {
			return err
		}
		return errors.Join(
			Rearm(th, task.Arena, w),
			task.Arena.Unmap(th, task.Arena.Syscall()),
			tracee.SetXState(th.TID, arch.PadXState(w.XState)),
			tracee.SetRegs(th.TID, &w.Regs),
			tracee.SetSigmask(th.TID, w.Mask),
			tracee.Detach(th.TID, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestSignalWaiting: with a signal that will be delivered, the kernel must
// decide how a call goes on, so the restored thread is given its code.
func TestSignalWaiting(t *testing.T) {
	for name, nr := range map[string]int64{"pause": sysPause, "poll": sysPoll, "read": unix.SYS_READ} {
		pid := start(t, "calls.c", name)
		awaitIn(t, pid, nr)
		// Ignored by default, but queued for a process that is traced.
		w := wakeFromImage(t, pid, func(*scan.Task) error { return unix.Kill(int(pid), unix.SIGWINCH) })
		in, _ := arch.InSyscall(&w.Regs)
		if code, ok := arch.RestartCode(&w.Regs); !ok || int64(in) != nr {
			t.Errorf("%s: code %d, %v, call %d", name, code, ok, in)
		}
		awaitIn(t, pid, nr) // nothing handled it: the call goes on
	}
}

// A signal that comes when it is settled how a call goes on, but before the thread runs,
// ends the call as it would have.
func TestSignalComesLater(t *testing.T) {
	for name, nr := range map[string]int64{"recvtime": unix.SYS_RECVFROM, "epoll": sysEpollWait, "read": unix.SYS_READ} {
		pid := start(t, "calls.c", name)
		awaitIn(t, pid, nr)
		err := tracee.Run(func() error {
			task, err := freeze(pid)
			if err != nil {
				return err
			}
			if _, err := ask(task); err != nil {
				return err
			}
			if err := task.Arena.Unmap(&task.Leader().Thread, task.Insn); err != nil {
				return err
			}
			Thaw(task.Leader(), Deliverable(task.Leader()))
			if err := unix.Kill(int(pid), unix.SIGUSR2); err != nil {
				return err
			}
			return errors.Join(task.Leader().Release(), task.Dir.Close())
		})
		if err != nil {
			t.Fatal(err)
		}
		awaitEnded(t, name, pid, nr)
	}
}

// So does one that comes before a restored thread runs.
func TestSignalBeforeItRuns(t *testing.T) {
	for name, nr := range map[string]int64{"recvtime": unix.SYS_RECVFROM, "epoll": sysEpollWait, "read": unix.SYS_READ, "polltime": sysPoll} {
		pid := start(t, "calls.c", name)
		awaitIn(t, pid, nr)
		wakeWith(t, pid, nil, func(*Wake) {
			if err := unix.Kill(int(pid), unix.SIGUSR2); err != nil {
				t.Error(err)
			}
		})
		awaitEnded(t, name, pid, nr)
	}
}

// awaitEnded waits until a process has handled SIGUSR2, and sleeps in pause(2), or once more in
// the call that the signal was to end.
func awaitEnded(t *testing.T, name string, pid proc.PID, nr int64) {
	t.Helper()
	d, err := proc.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for {
		st, err := d.Status()
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Thread(proc.TID(pid)).Syscall()
		if err != nil {
			t.Fatal(err)
		}
		waits := (st.ShdPnd|st.SigPnd)>>(unix.SIGUSR2-1)&1 != 0
		if !s.Running && s.Nr == sysPause {
			return
		}
		if !waits && !s.Running && s.Nr == nr {
			t.Errorf("%s: the call goes on, though a handler was called", name)
			return
		}
		runtime.Gosched()
	}
}

func TestDecodeRestart(t *testing.T) {
	good := restart{Nr: unix.SYS_NANOSLEEP, Code: arch.RestartBlock, Rest: unix.Timespec{Sec: 5, Nsec: 999_999_999}}
	if got, err := decodeRestart(good.encode()); err != nil || *got != good {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []restart{
		{Nr: 1 << 20, Code: arch.RestartBlock},
		{Nr: 35, Code: -4},
		{Nr: 35, Code: arch.RestartBlock, Rest: unix.Timespec{Sec: -1}},
		{Nr: 35, Code: arch.RestartBlock, Rest: unix.Timespec{Nsec: 1e9}},
	} {
		if _, err := decodeRestart(bad.encode()); err == nil {
			t.Errorf("accepted: %+v", bad)
		}
	}
}

func TestUnfold(t *testing.T) {
	w := &Wake{}
	arch.SetIP(&w.Regs, 0x1002)
	arch.Again(&w.Regs, unix.SYS_READ)
	if err := w.unfold(&restart{Nr: unix.SYS_READ, Code: arch.RestartNoHand}); err != nil {
		t.Fatal(err)
	}
	code, _ := arch.RestartCode(&w.Regs)
	if nr, ok := arch.InSyscall(&w.Regs); !ok || nr != unix.SYS_READ || code != arch.RestartNoHand || arch.IP(&w.Regs) != 0x1002 {
		t.Errorf("%+v", w.Regs)
	}
	if err := w.unfold(&restart{Nr: unix.SYS_READ, Code: arch.RestartNoHand}); err == nil {
		t.Error("a call that the registers don't make is accepted")
	}
	if err := w.unfold(&restart{Nr: unix.SYS_READ, Code: arch.RestartBlock}); err == nil {
		t.Error("a rest of a call that does not sleep is accepted")
	}
	if err := w.unfold(&restart{Nr: unix.SYS_FUTEX, Code: arch.RestartBlock}); err == nil {
		t.Error("a rest of a wait that the registers don't begin is accepted")
	}
}

// What can't be read is no block: one of zeros would be taken for a sleep's.
func TestBlockUnread(t *testing.T) {
	r, err := kmem.Open(BlockNames()...)
	testkit.KernelMemory(t, err)
	defer r.Close()
	if b, err := ReadBlock(r, -1); b != nil || err == nil {
		t.Errorf("read %v, %v", b, err)
	}
}
