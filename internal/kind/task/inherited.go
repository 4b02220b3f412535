package task

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// What a process inherits from the engine, and facets do not set where it is as usual: it
// is taken off the process that all others are cloned from. Of what can't be taken off a
// restore is refused.

// own asks the calling thread.
func (a *attribute) own() (v uint64, ok bool) {
	var args [5]uintptr
	for i, x := range a.get.args {
		args[i] = uintptr(x)
	}
	r, _, e := unix.RawSyscall6(a.get.nr, args[0], args[1], args[2], args[3], args[4], 0)
	return uint64(r), e == 0
}

// Usual queues calls that take off a process what it has from the calling thread. A
// real-time thread has no timer slack, which is why its policy is the first.
func Usual(b *remote.Batch) {
	if policy, err := unix.SchedGetAttr(0, 0); err == nil && policy.Policy != unix.SCHED_NORMAL {
		b.Call("sched_setscheduler", unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_NORMAL, uint64(b.U64(0)))
	}
	for _, a := range attributes() {
		if v, ok := a.own(); a.always || ok && a.special(v) && !a.stays(v) {
			b.Call(a.call, a.set.nr, append(append([]uint64(nil), a.set.args...), a.usual[0])...)
		}
	}
	b.Try("set_mempolicy", unix.SYS_SET_MEMPOLICY, 0, 0, 0) // not on every kernel
	if v, err := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0); err == nil && v == 1 {
		b.Call("prctl PR_SET_IO_FLUSHER", unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER)
	}
}

// stays tells whether nobody gets rid of a value, nor a child of who has it.
func (a *attribute) stays(v uint64) bool {
	return a.kept != 0 && a.special(v) && v&(a.kept|a.lost) == a.kept
}

// Check implements kind.Checker: what the engine can't take off a process.
func (Attributes) Check(_ *plan.CheckEnv, c *core.CoreEntry) error {
	if c.GetTc() == nil {
		return nil // that of the process stands for its threads
	}
	for _, a := range attributes() {
		if a.kept == 0 {
			continue // nor is it asked for: there may be thousands of processes
		}
		if v, ok := a.own(); !ok || !a.stays(v) {
			continue
		}
		x, err := ReadExtra(c)
		if err != nil {
			return err
		}
		if b, err := sized(x, a.name, 8); err != nil || b == nil || binary.LittleEndian.Uint64(b)&a.kept == 0 {
			return fmt.Errorf("Glis runs with %q (%s), which every process it makes keeps, but the saved one had it not; run Glis without", a.name, a.call)
		}
	}
	return nil
}
