package task

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/tracee"
)

// Wake is what a restored thread begins to run with.
type Wake struct {
	Regs   arch.Regs
	XState []byte // NT_X86_XSTATE, trimmed; nil: as a new thread has it
	Mask   uint64

	restart *restart // nil unless the rest of its time is known
	folded  bool     // Regs stand before the call, not after it
	// At is where that rest is in the restored task, see Prepare; 0: there is none.
	At remote.Addr
}

// ReadWake reads it from a thread's core image and ReadExtra's answer.
func ReadWake(c *core.CoreEntry, x kind.Extra) (*Wake, error) {
	regs, xstate, err := arch.GetCore(c)
	if err == nil && c.GetThreadCore() == nil {
		err = errors.New("core image: it has no thread_core")
	}
	if err != nil {
		return nil, err
	}
	w := &Wake{Regs: regs, XState: xstate, Mask: c.GetThreadCore().GetBlkSigset()}
	if c.GetThreadCore().BlkSigset == nil {
		w.Mask = c.GetTc().GetBlkSigset() // criu's place for a leader's
	}
	if extra, ok := x[extraXState]; ok {
		if w.XState, err = arch.AddXStateExtra(xstate, extra); err != nil {
			return nil, err
		}
	}
	r, err := getRestart(x)
	if err != nil || r == nil {
		return w, err
	}
	return w, w.unfold(r)
}

// unfold gives registers back the form in which the kernel decides how an
// interrupted call goes on.
func (w *Wake) unfold(r *restart) error {
	if r.Code == arch.RestartBlock {
		if _, _, ok := arch.TimeArg(r.Nr); !ok {
			return fmt.Errorf("core image: extra state %q: system call %d does not sleep", extraRestart, r.Nr)
		}
		w.restart, w.folded = r, arch.AtCall(&w.Regs, r.Nr)
		if _, _, sleeps := arch.SleepArgs(r.Nr); !sleeps && !w.folded {
			return fmt.Errorf("core image: extra state %q: call %d is not what the registers are about to do", extraRestart, r.Nr)
		}
		return nil
	}
	if !arch.AtCall(&w.Regs, r.Nr) {
		return fmt.Errorf("core image: extra state %q: call %d is not what the registers are about to do", extraRestart, r.Nr)
	}
	arch.SetInterrupted(&w.Regs, r.Nr, r.Code, true)
	return nil
}

// Slept tells whether it enters its call again, so that Rearm changes what it begins with.
func (w *Wake) Slept() bool { return w.restart != nil || w.connects() }

// connects tells whether it makes connect(2) again.
func (w *Wake) connects() bool {
	nr, ok := arch.InSyscall(&w.Regs)
	return ok && arch.IsConnect(nr)
}

// Prepare lays what Rearm needs into a batch of the thread. Call it while
// building the thread's last batch.
func (w *Wake) Prepare(b *remote.Batch) {
	if w.restart != nil {
		w.At = b.U64(uint64(w.restart.Rest.Sec), uint64(w.restart.Rest.Nsec))
	}
}

// Rearm gives a thread that was asleep, or waited for a given time, back the kernel's
// restart block it had: it enters its call for the rest of its time and is stopped
// before it has slept. Then w.Regs are those of a thread interrupted like that. Call it for
// every thread when the batch given to Prepare has run, and before the
// registers are set; what else the thread still does must not sleep.
func Rearm(t *remote.Thread, arena *remote.Arena, w *Wake) error {
	if w.connects() {
		return w.connected(t)
	}
	if w.restart == nil {
		return nil
	}
	if err := w.sleep(t, arena); err != nil {
		return fmt.Errorf("thread %d: sleep for the rest of its time: %w", t.TID, err)
	}
	return nil
}

// connected ends the call of a thread that was in connect(2), if its connection was made
// before it could hear of that: a restored one is connected, to which EISCONN is the answer.
func (w *Wake) connected(t *remote.Thread) error {
	pidfd, err := fd.Task(int(t.TID))
	if errors.Is(err, unix.EINVAL) {
		return nil // of a thread but the first, before Linux 6.9
	}
	if err != nil {
		return fmt.Errorf("thread %d: %w", t.TID, err)
	}
	defer pidfd.Close()
	sock, err := fd.Borrow(pidfd.Int(), int32(arch.CallArgs(&w.Regs)[0]))
	if errors.Is(err, unix.EBADF) {
		return nil // connect(2) will say so, too
	}
	if err != nil {
		return fmt.Errorf("thread %d: %w", t.TID, err)
	}
	defer sock.Close()
	info, err := unix.GetsockoptTCPInfo(sock.Int(), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return nil //nolint:nilerr // it is no socket of TCP
	}
	switch info.State {
	case unix.BPF_TCP_SYN_SENT, unix.BPF_TCP_SYN_RECV, unix.BPF_TCP_CLOSE, unix.BPF_TCP_LISTEN:
	default:
		arch.Finish(&w.Regs, 0)
	}
	return nil
}

// sleep has the thread enter its interrupted call with the time that is left.
func (w *Wake) sleep(t *remote.Thread, arena *remote.Arena) (err error) {
	if w.At == 0 {
		return errors.New("nothing was prepared")
	}
	args := arch.CallArgs(&w.Regs)
	back, ok, err := w.keep(t, args)
	if err != nil || !ok {
		return err
	}
	defer func() { err = errors.Join(err, back()) }()
	arg, milliseconds, _ := arch.TimeArg(w.restart.Nr)
	args[arg] = uint64(w.At)
	if milliseconds {
		args[arg] = uint64(w.restart.milliseconds())
	}
	result, err := interrupted(t, arena.Syscall(), w.restart.Nr, args)
	if err != nil {
		return err
	}
	// The program's own arguments stay in its registers.
	arch.SetInterrupted(&w.Regs, w.restart.Nr, result, w.folded)
	if result != arch.RestartBlock {
		// No time was left, or the call can't be made here: what it says is
		// its result.
		arch.Finish(&w.Regs, result)
	}
	return nil
}

// milliseconds is the rest, and no less. Of none there is one, as poll(2) would otherwise
// not wait, and say so.
func (r *restart) milliseconds() int64 {
	return min(max((r.Rest.Nano()+999_999)/1_000_000, 1), math.MaxInt32)
}

// mostPolled is for how many descriptors poll(2) goes on for the rest of its time.
const mostPolled = 1 << 16

// pollfd is the size of a struct pollfd.
const pollfd = 8

// keep remembers what the call is about to change in the thread's memory, and returns
// what changes it back. What poll(2) waits for is hidden from it meanwhile: files are
// not all as they will be, and it would say what they are like. The kernel looks at all
// of it again when the call goes on. ok is false if the call is just to be made anew.
func (w *Wake) keep(t *remote.Thread, args [6]uint64) (back func() error, ok bool, err error) {
	at, n := arch.Polled(w.restart.Nr, args)
	size := int(n) * pollfd
	if _, rest, sleeps := arch.SleepArgs(w.restart.Nr); sleeps && args[rest] != 0 {
		at, size = args[rest], 16 // a struct timespec
	}
	if n > mostPolled {
		return nil, false, nil
	}
	was := make([]byte, size)
	if err := t.Read(remote.Addr(at), was); size > 0 && err != nil {
		return nil, false, err
	}
	if n > 0 {
		hidden := slices.Clone(was)
		for i := 0; i < size; i += pollfd {
			copy(hidden[i:], []byte{0xff, 0xff, 0xff, 0xff}) // no descriptor
		}
		if err := remote.Write(proc.PID(t.TID), remote.Addr(at), hidden); err != nil {
			return nil, false, err
		}
	}
	return func() error { return remote.Write(proc.PID(t.TID), remote.Addr(at), was) }, true, nil
}

// interrupted makes a stopped thread enter a system call and leave it at once,
// as if it was stopped while it slept.
func interrupted(t *remote.Thread, insn remote.Addr, nr uint64, args [6]uint64) (int64, error) {
	regs := t.Regs
	arch.SetCall(&regs, uint64(insn), nr, args)
	if err := tracee.SetRegs(t.TID, &regs); err != nil {
		return 0, err
	}
	if err := toSyscallStop(t); err != nil {
		return 0, err
	}
	// Now at the entry. The thread finds itself wanted as soon as it sleeps.
	if err := tracee.Interrupt(t.TID); err != nil {
		return 0, err
	}
	if err := toSyscallStop(t); err != nil {
		return 0, err
	}
	regs, err := tracee.Regs(t.TID)
	if err != nil {
		return 0, err
	}
	// The stop that was asked for is not to come: any other stop, such as this
	// one at the exit, takes its place.
	return arch.Return(&regs), nil
}

// toSyscallStop has a thread run up to the next entry or exit of a system call. A SIGCONT
// that was queued for its process, as one of those that wait, has it stop once before.
func toSyscallStop(t *remote.Thread) error {
	for {
		if err := tracee.ContSyscall(t.TID); err != nil {
			return err
		}
		s, err := tracee.Wait(t.TID)
		switch {
		case err != nil || s.Syscall():
			return err
		case !s.Trap():
			return fmt.Errorf("unexpected %v", s)
		}
	}
}
