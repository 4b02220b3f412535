// Package tracee is the only package that says ptrace: threads that are
// seized, stopped, read and let go again.
//
// ptrace(2) ties a tracee to one OS thread. Tracer is that thread: everything
// here must be called inside the function given to Run.
package tracee

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// ErrGone says that the thread ended, or was never there.
var ErrGone = errors.New("the thread is gone")

// Run calls f on an OS thread of its own. The thread ends with f, and with it
// the kernel lets go of every tracee that f still holds (or kills it, where
// PTRACE_O_EXITKILL was given).
func Run(f func() error) error {
	return RunAndLeave(func() (bool, error) { return false, f() })
}

// RunAndLeave is Run that comes back only when the kernel has let go of what f
// still holds, if f says that it left something to that. It is how many are let go:
// the kernel does it in one loop, which takes a third of the time that as many calls
// of Detach do. A thread that had a signal to get from its tracer does not get it.
//
// The loop (exit_ptrace in kernel/ptrace.c) holds tasklist_lock for writing, without
// interrupts: several tracers with a part of the threads each would end one after the
// other, not side by side. It takes 2 µs for a thread where nobody is in its way, and 3 to
// 11 as those that were let go run on other CPUs meanwhile, each of which takes the lock
// of its process's signals (siglock), as the loop does. Of 10,000 threads in futex(2) on two
// CPUs the last has run after 84 to 129 ms. To keep the other CPU busy with a thread that
// comes first (SCHED_FIFO) until the loop is over makes that 64 to 97, of which the loop is 38
// to 79, at the cost of all else that runs, and on many CPUs of all of them; it makes nothing
// certain. The kernel's own way, SIGCONT after SIGSTOP, takes 49 to 69 ms for as many.
//
// Of 30,000 the loop takes 40 to 100 ms on two CPUs. Meanwhile (traced, of 10,000) the other CPU has done with a
// thread every 13 µs, as it waits for siglock, and afterwards every 5: two CPUs have the work of
// some 150 ms in all. No difference made, for so many: this thread before all others
// (SCHED_FIFO) from when the dump is cancelled until the loop begins, CPUs that stay awake
// (/dev/cpu_dma_latency), another CPU that looks at each thread just before the loop does,
// so that it is in the cache. The engine itself takes 1 to 7 ms of the time, from the signal
// to the loop.
func RunAndLeave(f func() (left bool, err error)) error {
	type result struct {
		tid  int
		left bool
		err  error
	}
	done := make(chan result, 1)
	go onOwnThread(func() {
		left, err := f()
		done <- result{unix.Gettid(), left, err}
	})
	r := <-done
	if r.left {
		awaitEnd(r.tid)
	}
	return r.err
}

// RunAndStay is Run, but for a thread that stays as long as this process if f says so
// and does not fail: its end is that of a parent for what f has made. It must not hold
// tracees then. So whoever restores again and again in one process what wants a signal at its
// parent's end (PR_SET_PDEATHSIG) has a thread more for each: the kernel sends that signal when the
// thread ends, and tells nobody when it is no longer wanted.
func RunAndStay(f func() (stay bool, err error)) error {
	done := make(chan error, 1)
	go onOwnThread(func() {
		stay, err := f()
		done <- err
		if stay && err == nil {
			select {}
		}
	})
	return <-done
}

// awaitEnd waits until a thread of this process is gone. It lets go of its tracees
// while it ends, and these want the CPU at once, so who waits for that comes first.
func awaitEnd(tid int) {
	const often = 50 * time.Microsecond
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer linux.ComeFirst()()
	for pid := unix.Getpid(); unix.Tgkill(pid, tid, 0) == nil; {
		sleep(often)
	}
}

// onOwnThread calls f on a thread that ends with it. Never unlocked: a thread
// that may still hold tracees must not be handed to other goroutines. The
// process's first thread can't end before the process does, so it is kept
// busy until f has another one.
func onOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	away := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(away)
		f()
	}()
	<-away
	runtime.UnlockOSThread()
}

// Stop is why a tracee stopped, as wait4(2) tells it.
type Stop struct{ status unix.WaitStatus }

// Exited tells whether the thread is gone, by exit or by signal.
func (s Stop) Exited() bool { return s.status.Exited() || s.status.Signaled() }

// ExitStatus returns the raw wait status of a thread that is gone.
func (s Stop) ExitStatus() unix.WaitStatus { return s.status }

// Signal returns the signal of the stop.
func (s Stop) Signal() unix.Signal { return unix.Signal(s.status>>8) & 0x7f }

// Event returns the PTRACE_EVENT_* number, 0 for a signal-delivery stop.
func (s Stop) Event() int { return int(s.status >> 16) }

// Syscall tells whether this is a system-call entry or exit stop
// (PTRACE_O_TRACESYSGOOD).
func (s Stop) Syscall() bool {
	return s.status.Stopped() && s.Event() == 0 && (s.status>>8)&0xff == 0x80|unix.WaitStatus(unix.SIGTRAP)
}

// Trap tells whether this is the stop that Interrupt asked for, or a group
// stop, or the first stop of an auto-attached child.
func (s Stop) Trap() bool { return s.status.Stopped() && s.Event() == linux.PTRACE_EVENT_STOP }

func (s Stop) String() string {
	switch {
	case s.status.Exited():
		return fmt.Sprintf("exit with %d", s.status.ExitStatus())
	case s.status.Signaled():
		return fmt.Sprintf("death by %v", s.status.Signal())
	case s.Trap():
		return fmt.Sprintf("trap (%v)", s.Signal())
	}
	return fmt.Sprintf("stop by %v, event %d", s.Signal(), s.Event())
}

// Seize attaches to a thread without stopping it. options are PTRACE_O_*.
// ErrGone if there is no such thread. It is for a thread that surely executes no
// program, see Seizing.
func Seize(tid proc.TID, options uintptr) error {
	return wrap("seize", tid, ptrace(linux.PTRACE_SEIZE, tid, 0, options))
}

// Interrupt asks a seized thread to stop; Wait then reports Trap.
func Interrupt(tid proc.TID) error {
	return wrap("interrupt", tid, ptrace(linux.PTRACE_INTERRUPT, tid, 0, 0))
}

// Cont lets a stopped thread run, with sig delivered to it (0: none).
func Cont(tid proc.TID, sig unix.Signal) error {
	return wrap("continue", tid, ptrace(linux.PTRACE_CONT, tid, 0, uintptr(sig)))
}

// ContSyscall lets a stopped thread run up to the next system-call stop.
func ContSyscall(tid proc.TID) error {
	return wrap("continue to system call", tid, ptrace(linux.PTRACE_SYSCALL, tid, 0, 0))
}

// Listen leaves a thread that is in a group stop stopped but attached.
func Listen(tid proc.TID) error {
	return wrap("listen", tid, ptrace(linux.PTRACE_LISTEN, tid, 0, 0))
}

// Detach lets a stopped thread go, with sig delivered to it (0: none).
func Detach(tid proc.TID, sig unix.Signal) error {
	return wrap("detach", tid, ptrace(linux.PTRACE_DETACH, tid, 0, uintptr(sig)))
}

// SetOptions changes the PTRACE_O_* options of a stopped thread.
func SetOptions(tid proc.TID, options uintptr) error {
	return wrap("set options", tid, ptrace(linux.PTRACE_SETOPTIONS, tid, 0, options))
}

// Wait waits for one thread, never for any: a process that uses this as a
// library has children of its own.
func Wait(tid proc.TID) (Stop, error) {
	for i := 0; i < patience && machine.alone(); i++ {
		if s, ok, err := TryWait(tid); ok || err != nil {
			return s, err
		}
		machine.giveWay()
	}
	defer ReapOthers(tid)()
	return wait(tid, 0)
}

// patience is how often a report is asked for before it is waited for. Most come
// within microseconds, if the thread gets a CPU, and to be woken takes longer.
const patience = 150

// TryWait is Wait that does not block; ok tells whether there was a report.
func TryWait(tid proc.TID) (s Stop, ok bool, err error) {
	s, err = wait(tid, unix.WNOHANG)
	return s, err == nil && s.status != noReport, err
}

// noReport marks that wait4 had nothing to say.
const noReport = unix.WaitStatus(0xffffffff)

func wait(tid proc.TID, flags int) (Stop, error) {
	for i := 1; ; i++ {
		var st unix.WaitStatus
		got, err := unix.Wait4(int(tid), &st, linux.WALL|flags, nil)
		switch {
		case err == unix.EINTR, err != nil && err != unix.ECHILD && i < ptraceTries:
			continue
		case err != nil:
			return Stop{}, wrap("wait for", tid, err)
		case got == 0:
			return Stop{noReport}, nil
		}
		return Stop{st}, nil
	}
}

// hasStopped tells whether there is something to wait for, and leaves it there.
func hasStopped(tid proc.TID) (bool, error) {
	for i := 1; ; i++ {
		var info unix.Siginfo // its signal is 0 as long as there is nothing
		err := unix.Waitid(unix.P_PID, int(tid), &info, linux.WALL|unix.WEXITED|unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR, err != nil && err != unix.ECHILD && i < ptraceTries:
			continue
		case err != nil:
			return false, wrap("wait for", tid, err)
		}
		return info.Signo != 0, nil
	}
}

// WaitTrap waits for the stop that Interrupt asked for (or that an
// auto-attached child begins with). Signals that come first are delivered to
// the thread, as they would have been without us.
func WaitTrap(tid proc.TID) (Stop, error) { return waitTrap(tid, Wait) }

// WaitTrapUntil is WaitTrap that gives up when stop returns an error, which it
// then returns: a thread may be somewhere in the kernel where it can't stop
// (waiting for a child of vfork(2), or for a dead file server).
func WaitTrapUntil(tid proc.TID, stop func() error) (Stop, error) {
	return waitTrap(tid, func(tid proc.TID) (Stop, error) { return waitUntil(tid, stop) })
}

// waitUntil looks again and again, at first without a pause: a thread that can
// stop does so within microseconds, if it gets a CPU.
func waitUntil(tid proc.TID, stop func() error) (Stop, error) {
	const most = time.Millisecond
	pause := 10 * time.Microsecond
	for i := 0; ; i++ {
		s, ok, err := TryWait(tid)
		if ok || err != nil {
			return s, err
		}
		if err := stop(); err != nil {
			return s, err
		}
		if i < patience && machine.alone() {
			machine.giveWay()
			continue
		}
		sleep(pause)
		if pause = min(2*pause, most); pause == most {
			reapDead(tid)
		}
	}
}

// sleep is time.Sleep that keeps the thread, see giveWay.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil) // less is as good
}

func waitTrap(tid proc.TID, wait func(proc.TID) (Stop, error)) (Stop, error) {
	for {
		s, err := wait(tid)
		if err != nil {
			return s, err
		}
		if trapped, err := handOn(tid, s); trapped || err != nil {
			return s, err
		}
	}
}

// handOn tells whether a report is of the stop that is waited for. From any other
// the thread goes on, with the signal that was for it.
func handOn(tid proc.TID, s Stop) (trapped bool, err error) {
	switch {
	case s.Exited():
		return false, fmt.Errorf("thread %d: %v: %w", tid, s, ErrGone)
	case s.Trap():
		return true, nil
	}
	// Any stop is the end of what was asked for (ptrace_stop() in kernel/signal.c); and
	// who has executed a program may have had another number when it was asked.
	if err := Interrupt(tid); err != nil {
		return false, err
	}
	return false, Cont(tid, s.deliver())
}

// Still makes sure that a thread stands in the stop that was waited for, and waits for
// that as WaitTrapUntil does if not: when a thread executes a program all others end,
// stopped or not, and it goes on under the number of the first. ErrGone if nobody has
// this number now, or one that was not seized.
func Still(tid proc.TID, stop func() error) error {
	_, moves := Regs(tid)
	s, ok, err := TryWait(tid)
	if err != nil || !ok && moves == nil {
		return err
	}
	if ok {
		if trapped, err := handOn(tid, s); trapped || err != nil {
			return err
		}
	} else if err := Interrupt(tid); err != nil {
		return err // asking for it under the number that it had has asked nobody
	}
	_, err = WaitTrapUntil(tid, stop)
	return err
}

// deliver returns the signal to hand on after a stop: event stops carry none.
func (s Stop) deliver() unix.Signal {
	if s.Event() != 0 || s.Syscall() {
		return 0
	}
	return s.Signal()
}

func wrap(what string, tid proc.TID, err error) error {
	switch err {
	case nil:
		return nil
	case unix.ESRCH, unix.ECHILD:
		return fmt.Errorf("ptrace: %s thread %d: %w", what, tid, ErrGone)
	}
	return fmt.Errorf("ptrace: %s thread %d: %w", what, tid, err)
}
