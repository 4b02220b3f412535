package task

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/timer"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// Timers are the three interval timers of a process.
type Timers struct{}

// Name implements kind.Facet.
func (Timers) Name() string { return "interval timers" }

const (
	itimers        = 3  // ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF
	itimervalSize  = 32 // interval and value, each of seconds and microseconds
	microPerSecond = 1_000_000
)

// Dump implements kind.Facet.
func (Timers) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(itimers * itimervalSize)
	for i := range uint64(itimers) {
		q.Batch.Call("getitimer", unix.SYS_GETITIMER, i, uint64(at)+i*itimervalSize)
	}
	return func(c *core.CoreEntry) error {
		b, err := q.Batch.Output(at, itimers*itimervalSize)
		if err != nil {
			return err
		}
		entry := func(i int) *timer.ItimerEntry {
			var v [4]uint64
			for k := range v {
				v[k] = binary.LittleEndian.Uint64(b[i*itimervalSize+8*k:])
			}
			return &timer.ItimerEntry{Isec: &v[0], Iusec: &v[1], Vsec: &v[2], Vusec: &v[3]}
		}
		c.Tc.Timers = &timer.TaskTimersEntry{Real: entry(unix.ITIMER_REAL), Virt: entry(unix.ITIMER_VIRTUAL), Prof: entry(unix.ITIMER_PROF)}
		return nil
	}, nil
}

// Check implements kind.Checker.
func (Timers) Check(_ *plan.CheckEnv, c *core.CoreEntry) error {
	t := c.GetTc().GetTimers()
	for _, e := range []*timer.ItimerEntry{t.GetReal(), t.GetVirt(), t.GetProf()} {
		if e.GetIsec() > 1<<62 || e.GetVsec() > 1<<62 || e.GetIusec() >= microPerSecond || e.GetVusec() >= microPerSecond {
			return fmt.Errorf("core image: interval timer of %d.%06d s every %d.%06d s makes no sense", e.GetVsec(), e.GetVusec(), e.GetIsec(), e.GetIusec())
		}
	}
	return nil
}

// Restore implements kind.Facet.
func (Timers) Restore(r *kind.Redo) error {
	t := r.Leader.GetTc().GetTimers()
	for i, e := range []*timer.ItimerEntry{t.GetReal(), t.GetVirt(), t.GetProf()} {
		isec, iusec, vsec, vusec := e.GetIsec(), e.GetIusec(), e.GetVsec(), e.GetVusec()
		if i == unix.ITIMER_REAL && vsec == 0 && vusec == 0 {
			// Its signal waits, or too little was left to be seen; 0 would switch it off.
			vsec, vusec = isec, iusec
		}
		if vsec|vusec|isec|iusec == 0 {
			continue // a new process has no timers
		}
		r.Batch.Call("setitimer", unix.SYS_SETITIMER, uint64(i), uint64(r.Batch.U64(isec, iusec, vsec, vusec)), 0)
	}
	return nil
}
