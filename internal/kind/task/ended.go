package task

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/creds"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
)

// EndedCore begins the core image of a process whose first thread has ended while
// others go on: what /proc still tells of that thread. The image says that it is
// about to exit, as it did, so that whoever restores it, criu too, has it do that.
// other is the image of the thread that was asked in its place.
func EndedCore(t *scan.Task, other *core.CoreEntry) (*core.CoreEntry, error) {
	first := t.Ended
	status := unix.WaitStatus(t.Stat.ExitCode)
	if !status.Exited() {
		return nil, fmt.Errorf("%v: its first thread has ended with %#x", t, uint32(status))
	}
	c := CoreHead(first)
	*c.Tc.Flags &^= pfExiting
	regs := t.Leader().Regs
	arch.SetCall(&regs, uint64(t.Insn), unix.SYS_EXIT, [6]uint64{uint64(status.ExitStatus())})
	if err := arch.PutCore(c, &regs, t.Leader().XState); err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	c.ThreadCore.Comm = &t.Stat.Comm
	c.ThreadCore.Creds = endedCreds(first, other.GetThreadCore().GetCreds())
	putEndedSched(c.ThreadCore, t)
	putExtra(c, extraEnded, binary.LittleEndian.AppendUint32(nil, uint32(status.ExitStatus())))
	return c, nil
}

// pfExiting is PF_EXITING of include/linux/sched.h.
const pfExiting = 4

// endedCreds are the credentials of a thread that has ended: what its status says,
// and the securebits, which nobody tells, of another thread.
func endedCreds(first *scan.Thread, other *creds.CredsEntry) *creds.CredsEntry {
	s := first.Status
	u, g := s.Uid, s.Gid
	secbits := other.GetSecbits()
	e := &creds.CredsEntry{
		Uid: &u[0], Euid: &u[1], Suid: &u[2], Fsuid: &u[3], Gid: &g[0], Egid: &g[1], Sgid: &g[2], Fsgid: &g[3],
		Groups: s.Groups, Secbits: &secbits,
		CapInh: halves(s.CapInh), CapPrm: halves(s.CapPrm), CapEff: halves(s.CapEff), CapBnd: halves(s.CapBnd), CapAmb: halves(s.CapAmb),
	}
	if s.NoNewPrivs {
		e.NoNewPrivs = new(uint32(1))
	}
	return e
}

// putEndedSched fills in how the thread is scheduled: getpriority(2) and
// sched_getscheduler(2) tell it of a process by its first thread. One with a deadline
// has none any more.
func putEndedSched(c *core.ThreadCoreEntry, t *scan.Task) {
	policy, nice := t.Stat.Policy, int32(t.Stat.Nice)
	switch {
	case realtime(policy):
		c.SchedPrio = &t.Stat.RTPriority
	case policy > unix.SCHED_IDLE:
		policy = unix.SCHED_NORMAL
	}
	c.SchedPolicy, c.SchedNice = &policy, &nice
}

// Ended tells of a first thread, by ReadExtra's answer, whether it is to end before
// the others of its process go on.
func Ended(x kind.Extra) (bool, error) {
	b, err := sized(x, extraEnded, 4)
	return b != nil, err
}
