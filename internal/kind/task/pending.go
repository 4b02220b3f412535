package task

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/siginfo"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Signals are those that wait for one thread.
type Signals struct{}

// Name implements kind.Facet.
func (Signals) Name() string { return "pending signals" }

// Dump implements kind.Facet.
func (Signals) Dump(q *kind.Question) (kind.Answer, error) {
	return func(c *core.CoreEntry) error {
		c.ThreadCore.SignalsP = putSignals(q.Thread.Pending, q.Thread.Status.SigPnd)
		return nil
	}, nil
}

// Check implements kind.Checker.
func (Signals) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	return checkSignals(env, c.GetThreadCore().GetSignalsP())
}

// Restore implements kind.Facet. A thread may send itself anything.
func (Signals) Restore(r *kind.Redo) error {
	return eachSignal(r.Core.GetThreadCore().GetSignalsP(), func(sig uint64, info []byte) {
		r.Batch.Call("rt_tgsigqueueinfo", unix.SYS_RT_TGSIGQUEUEINFO, uint64(r.PID), uint64(r.TID), sig, uint64(r.Batch.Bytes(info)))
	})
}

// SharedSignals are those that wait for any thread of a process.
type SharedSignals struct{}

// Name implements kind.Facet.
func (SharedSignals) Name() string { return "pending signals of the process" }

// Dump implements kind.Facet.
func (SharedSignals) Dump(q *kind.Question) (kind.Answer, error) {
	return func(c *core.CoreEntry) error {
		c.Tc.SignalsS = putSignals(q.Thread.Shared, q.Thread.Status.ShdPnd)
		return nil
	}, nil
}

// Check implements kind.Checker.
func (SharedSignals) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	return checkSignals(env, c.GetTc().GetSignalsS())
}

// Restore implements kind.Facet.
func (SharedSignals) Restore(r *kind.Redo) error {
	return eachSignal(r.Leader.GetTc().GetSignalsS(), func(sig uint64, info []byte) {
		r.Batch.Call("rt_sigqueueinfo", unix.SYS_RT_SIGQUEUEINFO, uint64(r.PID), sig, uint64(r.Batch.Bytes(info)))
	})
}

// PutSignals writes what waits for a thread, and for its process by the
// leader, into its core image, over what was there.
func PutSignals(c *core.CoreEntry, t *scan.Thread) {
	c.ThreadCore.SignalsP = putSignals(t.Pending, t.Status.SigPnd)
	if c.Tc != nil {
		c.Tc.SignalsS = putSignals(t.Shared, t.Status.ShdPnd)
		PutStop(c, t.Task)
	}
}

// PutStop says in a leader's core image that the task is stopped, if a SIGSTOP
// came for any thread while it was frozen. The signal itself is not put: it
// would have stopped the task at once, and so will the restore.
func PutStop(c *core.CoreEntry, t *scan.Task) {
	if Stops(t) {
		c.Tc.TaskState, c.Tc.StopSigno = new(uint32(StateStopped)), new(uint32(unix.SIGSTOP))
	}
}

// Stops tells whether that is so, as far as is known.
func Stops(t *scan.Task) bool {
	return slices.ContainsFunc(t.Threads, func(th *scan.Thread) bool {
		return th.WillStop() || slices.ContainsFunc(th.Pending, isStop) || slices.ContainsFunc(th.Shared, isStop)
	})
}

func isStop(s linux.Siginfo) bool { return signo(&s) == int32(unix.SIGSTOP) }

// putSignals writes queued signals for the image. A signal of the set that is
// not in the queue came when the queue was full: it has no details.
func putSignals(queue []linux.Siginfo, set uint64) *siginfo.SignalQueueEntry {
	out := &siginfo.SignalQueueEntry{}
	for i := range queue {
		if isStop(queue[i]) {
			continue // see PutStop
		}
		out.Signals = append(out.Signals, &siginfo.SiginfoEntry{Siginfo: queue[i][:]})
		set &^= 1 << (uint(signo(&queue[i])) - 1)
	}
	for _, sig := range [...]unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		set &^= 1 << (uint(sig) - 1) // these take each other away again
	}
	for sig := uint32(1); sig <= linux.NSIG; sig++ {
		if set>>(sig-1)&1 != 0 {
			var info linux.Siginfo // si_code 0 is SI_USER, as the kernel makes up then
			binary.LittleEndian.PutUint32(info[:], sig)
			out.Signals = append(out.Signals, &siginfo.SiginfoEntry{Siginfo: info[:]})
		}
	}
	return out
}

// Waiting returns the signals that wait, by a core image, for a thread or for
// its process, as a mask with signal 1 in bit 0.
func Waiting(c *core.CoreEntry) (mask uint64) {
	for _, q := range []*siginfo.SignalQueueEntry{c.GetThreadCore().GetSignalsP(), c.GetTc().GetSignalsS()} {
		for _, s := range q.GetSignals() {
			if len(s.Siginfo) >= 4 {
				mask |= 1 << (binary.LittleEndian.Uint32(s.Siginfo) - 1)
			}
		}
	}
	return mask
}

// signo returns the number of a queued signal.
func signo(s *linux.Siginfo) int32 { return int32(binary.LittleEndian.Uint32(s[:])) }

// checkSignals refuses what can't be pending, and has room for the rest.
func checkSignals(env *plan.CheckEnv, q *siginfo.SignalQueueEntry) error {
	env.Calls(len(q.GetSignals()), linux.SiginfoSize)
	return eachSignal(q, func(uint64, []byte) {})
}

// eachSignal calls queue for every signal of an image, oldest first.
func eachSignal(q *siginfo.SignalQueueEntry, queue func(sig uint64, info []byte)) error {
	for _, s := range q.GetSignals() {
		if len(s.Siginfo) != linux.SiginfoSize {
			return fmt.Errorf("pending signal: %d bytes of siginfo, expected %d", len(s.Siginfo), linux.SiginfoSize)
		}
		sig := int32(binary.LittleEndian.Uint32(s.Siginfo))
		if sig < 1 || sig > linux.NSIG || sig == int32(unix.SIGKILL) || sig == int32(unix.SIGSTOP) {
			return fmt.Errorf("pending signal: number %d cannot be pending", sig)
		}
		queue(uint64(sig), s.Siginfo)
	}
	return nil
}
