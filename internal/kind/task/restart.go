package task

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// A thread that is stopped in a system call gets one of the kernel's own error
// numbers as its result, and the kernel decides when it runs again: make the
// call anew, go on with the rest of a timeout (the "restart block"), or end
// with EINTR if there is a handler to run. In the same task all of that goes
// on working by itself. A restored task has no restart block, and its
// registers come from an image that criu must be able to read, too. So:
//
//   - a call to be made anew is in the image as it is for criu: registers
//     before the call. If a signal waits, the code is kept as well, since a
//     handler may turn it into EINTR;
//   - a sleep knows its rest: the kernel has left it where the program asked
//     for it. Rearm makes the restored thread sleep for that time and stop at
//     once, which gives it a restart block like the one it had. criu's field
//     says EINTR, as criu would;
//   - calls with the end of their time as an absolute number, or with no end,
//     are just made again;
//   - what is left of a poll, of a futex wait for a given time, or of a sleep
//     that doesn't ask for it, only the kernel's memory tells (scan.Block). In
//     the image the call is one to be made anew; Rearm makes it for the rest.
//     Where nobody has looked it is made again with its whole time: "at
//     least that long" is what they promise, while an EINTR would be one that
//     the program never gets unless it has a handler. A task that only runs
//     on after a dump keeps its time to the nanosecond.
//   - epoll_wait and a few others end with EINTR by being stopped. If they
//     have no timeout they are made again too (Thaw does the same for a task
//     that runs on), else EINTR it is, as after SIGSTOP and SIGCONT: who waits
//     so reckons its time anew then. Calls on sockets with a limit of time
//     (SO_RCVTIMEO, SO_SNDTIMEO) end like that, too, of which programs know
//     less; they are made again, with the whole limit. The rest of either time is in a
//     timer on the stack of the thread in the kernel, which is gone as soon as
//     it is stopped, and the limit is the socket's, which others have, too.
//   - a signal may come at any time until a thread runs, as of a timer, and its
//     handler before the call has begun: an EINTR that the program waits for would not
//     come. So registers say that a call is to be made again, which is what criu
//     knows, and the kernel's code is kept beside, by which it decides then.
//   - connect(2) that is made again tells EISCONN if the connection was made
//     meanwhile, since restored ones are connected. Rearm ends it as the kernel would have.

// restart is what an image says beyond the registers about a thread that was
// interrupted in a system call.
type restart struct {
	Nr   uint64 // system call
	Code int64  // the kernel's own error number
	// Rest is what was left of the call's time, for Code ERESTART_RESTARTBLOCK.
	Rest unix.Timespec
}

const restartSize = 32

func (r *restart) encode() []byte {
	b := make([]byte, 0, restartSize)
	for _, v := range [...]uint64{r.Nr, uint64(r.Code), uint64(r.Rest.Sec), uint64(r.Rest.Nsec)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// getRestart reads it; nil if there is none.
func getRestart(x kind.Extra) (*restart, error) {
	b, ok := x[extraRestart]
	if !ok {
		return nil, nil
	}
	return decodeRestart(b)
}

func decodeRestart(b []byte) (*restart, error) {
	if len(b) != restartSize {
		return nil, fmt.Errorf("core image: extra state %q: %d bytes, expected %d", extraRestart, len(b), restartSize)
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	r := &restart{Nr: word(0), Code: int64(word(1))}
	r.Rest.Sec, r.Rest.Nsec = int64(word(2)), int64(word(3))
	if !arch.ValidRestart(r.Code) || r.Nr > 1<<16 || !validTime(r.Rest) {
		return nil, fmt.Errorf("core image: extra state %q: call %d, code %d, rest %d.%09d s makes no sense", extraRestart, r.Nr, r.Code, r.Rest.Sec, r.Rest.Nsec)
	}
	return r, nil
}

func validTime(t unix.Timespec) bool { return t.Sec >= 0 && t.Nsec >= 0 && t.Nsec < 1e9 }

// Deliverable tells whether a signal waits that the thread does not block: one
// that will run a handler or end the process as soon as the thread runs.
func Deliverable(t *scan.Thread) bool {
	for _, queue := range [...]uint64{t.Status.SigPnd, t.Status.ShdPnd} {
		if queue&^t.Mask != 0 {
			return true
		}
	}
	for i := range t.Pending {
		if !blocked(t.Mask, signo(&t.Pending[i])) {
			return true
		}
	}
	shared := t.Task.Leader().Shared
	for i := range shared {
		if !blocked(t.Mask, signo(&shared[i])) {
			return true
		}
	}
	return false
}

func blocked(mask uint64, sig int32) bool { return sig < 1 || mask>>(sig-1)&1 != 0 }

// Thaw makes a thread's registers those with which it should run on in the
// same task, after a dump that leaves it alive or one that failed. Call it
// once, before the registers are put back for the last time. pending is what
// Deliverable says then.
//
// Nearly always the registers are right as they are: the kernel restarts an
// interrupted call itself.
func Thaw(t *scan.Thread, pending bool) { t.Mend(pending) }

// foldRestart returns the registers for the image, and what else is to be
// said (nil if nothing).
func foldRestart(t *scan.Thread) (arch.Regs, *restart, error) {
	r, pending := t.Regs, Deliverable(t)
	nr, _ := arch.InSyscall(&r)
	code, interrupted := arch.RestartCode(&r)
	switch {
	case remote.Again(&r, pending):
		arch.Rewind(&r)
		return r, &restart{Nr: nr, Code: arch.RestartNoHand}, nil
	case !interrupted:
	case arch.NeedsBlock(&r):
		return foldBlock(t, r, pending)
	default:
		arch.FoldRestart(&r, false)
		return r, &restart{Nr: nr, Code: code}, nil
	}
	return r, nil, nil
}

// foldBlock is foldRestart for calls that go on from the restart block.
func foldBlock(t *scan.Thread, r arch.Regs, pending bool) (arch.Regs, *restart, error) {
	args := arch.CallArgs(&r)
	nr, ok, err := blockCall(t, &r)
	if err != nil {
		return r, nil, err
	}
	if !ok {
		// Unknown, so EINTR is all that is left.
		arch.FoldRestart(&r, false)
		return r, nil, nil
	}
	if rest, ok, err := sleepRest(t, nr, args); err != nil {
		return r, nil, err
	} else if ok {
		arch.FoldRestart(&r, false)
		return r, &restart{Nr: nr, Code: arch.RestartBlock, Rest: rest}, nil
	}
	arch.Again(&r, nr)
	if rest, ok := blockRest(t, nr, args); ok {
		return r, &restart{Nr: nr, Code: arch.RestartBlock, Rest: rest}, nil
	}
	// A handler turns this code into EINTR, as it does with the other.
	return r, &restart{Nr: nr, Code: arch.RestartNoHand}, nil
}

// blockCall finds out which system call a thread with a restart block made.
// Once it was interrupted before, the kernel only says restart_syscall. Code that
// nobody may read (EFAULT) doesn't tell, nor does that of syscall(3).
func blockCall(t *scan.Thread, r *arch.Regs) (nr uint64, ok bool, err error) {
	if nr, _ := arch.InSyscall(r); nr != arch.SysRestart {
		return nr, true, nil
	}
	var code [arch.CalledNrSize]byte
	err = t.Read(remote.Addr(arch.AfterSyscall(r)-arch.CalledNrSize), code[:])
	if err != nil && !errors.Is(err, unix.EFAULT) {
		return 0, false, err
	}
	if err == nil {
		if nr, ok := arch.CalledNr(code[:]); ok {
			return nr, true, nil
		}
	}
	if t.Block != nil {
		nr, ok = arch.CallOf(arch.CallArgs(r), [2]uint64(t.Block.Words[:2]))
	}
	if !ok {
		nr, ok = arch.BlockCall(arch.CallArgs(r))
	}
	return nr, ok, nil
}

// Guessed tells whether a thread is in a call of which neither its registers nor its
// code tell which it is. The kernel's memory does, see ReadBlock.
func Guessed(t *scan.Thread) (bool, error) {
	if nr, _ := arch.InSyscall(&t.Regs); nr != arch.SysRestart || !arch.NeedsBlock(&t.Regs) {
		return false, nil
	}
	_, ok, err := blockCall(t, &t.Regs)
	return !ok, err
}

// BlockNames are the members of the kernel's structures that ReadBlock needs. They are
// not with those of others, as it takes longer to find them.
func BlockNames() []string {
	return []string{"?task_struct.restart_block", "?restart_block", "?restart_block.futex"}
}

// ReadBlock reads what the kernel has about the interrupted call of the thread that a
// pidfd is of.
func ReadBlock(r *kmem.Reader, pidfd int) (*scan.Block, error) {
	for _, n := range BlockNames() {
		if !r.Has(n[1:]) {
			return nil, fmt.Errorf("%w: the kernel has no %s", kmem.ErrUnavailable, n[1:])
		}
	}
	at, err := r.Task(pidfd)
	if err != nil {
		return nil, err
	}
	out := &scan.Block{}
	var b [8 * len(out.Words)]byte
	if err := r.ReadAt(b[:], at+r.Off("task_struct.restart_block")+r.Off("restart_block.futex")); err != nil {
		return nil, err
	}
	for i := range out.Words {
		out.Words[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	return out, nil
}

// Timed tells whether a thread is in a call that ends by itself, and of which only the
// kernel's memory says what is left of its time.
func Timed(t *scan.Thread) (bool, error) {
	if !arch.NeedsBlock(&t.Regs) {
		return false, nil
	}
	nr, ok, err := blockCall(t, &t.Regs)
	return ok && arch.Timed(nr, arch.CallArgs(&t.Regs)), err
}

// blockRest returns what is left of the time of a call, if the kernel's memory told.
func blockRest(t *scan.Thread, nr uint64, args [6]uint64) (rest unix.Timespec, ok bool) {
	if t.Block == nil || !arch.Timed(nr, args) {
		return rest, false
	}
	if _, n := arch.Polled(nr, args); n > mostPolled {
		return rest, false
	}
	clock, end, ok := arch.BlockEnd(nr, args, t.Block.Words)
	now := t.Block.Monotonic
	if clock == unix.CLOCK_BOOTTIME {
		now = t.Block.Boottime
	}
	whole, known := wholeTime(t, nr, args)
	if !ok || !known || end > 1<<63-1 {
		return rest, false
	}
	return unix.NsecToTimespec(min(max(int64(end)-now, 0), whole)), true
}

// wholeTime returns the time that a call was made with, in ns.
func wholeTime(t *scan.Thread, nr uint64, args [6]uint64) (ns int64, ok bool) {
	arg, milliseconds, ok := arch.TimeArg(nr)
	if !ok || milliseconds {
		return int64(int32(args[arg])) * 1e6, ok
	}
	var b [16]byte
	if err := t.Read(remote.Addr(args[arg]), b[:]); err != nil {
		return 0, false
	}
	ts := unix.Timespec{Sec: int64(binary.LittleEndian.Uint64(b[:])), Nsec: int64(binary.LittleEndian.Uint64(b[8:]))}
	if !validTime(ts) {
		return 0, false
	}
	return min(ts.Sec, mostSeconds)*1e9 + ts.Nsec, true
}

// mostSeconds is more than the kernel waits (KTIME_MAX), and in ns still fits.
const mostSeconds = math.MaxInt64/1_000_000_000 - 1

// sleepRest reads what is left of a sleep, if the program asked the kernel to
// tell: it has just done so.
func sleepRest(t *scan.Thread, nr uint64, args [6]uint64) (rest unix.Timespec, ok bool, err error) {
	_, at, ok := arch.SleepArgs(nr)
	if !ok || args[at] == 0 {
		return rest, false, nil
	}
	var b [16]byte
	if err := t.Read(remote.Addr(args[at]), b[:]); err != nil {
		return rest, false, err
	}
	rest.Sec = int64(binary.LittleEndian.Uint64(b[:]))
	rest.Nsec = int64(binary.LittleEndian.Uint64(b[8:]))
	if !validTime(rest) {
		return rest, false, nil
	}
	return rest, true, nil
}
