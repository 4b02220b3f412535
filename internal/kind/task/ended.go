package task

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/creds"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
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
	*c.Tc.Flags &^= proc.PFExiting
	regs := t.Leader().Regs
	arch.SetCall(&regs, uint64(t.Insn), unix.SYS_EXIT, [6]uint64{uint64(status.ExitStatus())})
	if err := arch.PutCore(c, &regs, t.Leader().XState); err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	c.ThreadCore.Comm = &t.Stat.Comm
	c.ThreadCore.Creds = endedCreds(first, other.GetThreadCore().GetCreds())
	if err := putEndedRest(c, t); err != nil {
		return nil, kind.About(t, err)
	}
	putExtra(c, extraEnded, binary.LittleEndian.AppendUint32(nil, uint32(status.ExitStatus())))
	return c, nil
}

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

// putEndedRest fills in what others can ask of the thread by the process's number: how
// it is scheduled, on which CPUs, its personality, its timer slack, and which signals it
// had blocked. Its I/O priority went with it, and nobody can ask for its securebits.
func putEndedRest(c *core.CoreEntry, t *scan.Task) error {
	pid := int(t.PID)
	if err := putEndedSched(c, t); err != nil {
		return err
	}
	a := newAffinity()
	set := make([]byte, a.cpus().room)
	n, err := linux.SchedGetaffinity(pid, set)
	if err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	a.put(c, set[:n])
	dir, err := proc.Open(t.PID)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only read from
	own, err := dir.Personality()
	if err != nil {
		return err
	}
	putPersonality(c, own)
	slack, err := dir.TimerSlack()
	if err == nil {
		putEndedSlack(c, slack)
	} else if !errors.Is(err, unix.EPERM) { // without CAP_SYS_NICE
		return err
	}
	if m := t.Ended.Status.SigBlk; m != 0 {
		putExtra(c, extraEndedMask, binary.LittleEndian.AppendUint64(nil, m))
	}
	return nil
}

// putEndedSlack notes a timer slack, as Attributes does.
func putEndedSlack(c *core.CoreEntry, slack uint64) {
	a := attributes()[0]
	if a.special(slack) {
		putExtra(c, a.name, binary.LittleEndian.AppendUint64(nil, slack))
	}
}

// putEndedSched fills in how the thread is scheduled. One with a deadline has none any
// more.
func putEndedSched(c *core.CoreEntry, t *scan.Task) error {
	is, err := unix.SchedGetAttr(int(t.PID), 0)
	if err != nil {
		return fmt.Errorf("sched_getattr: %w", err)
	}
	if is.Policy > unix.SCHED_IDLE {
		is = &unix.SchedAttr{Flags: is.Flags & schedResetOnFork}
	}
	attr := make([]byte, schedAttrSize)
	if _, err := binary.Encode(attr, binary.LittleEndian, is); err != nil {
		return err
	}
	newSched().put(c, attr, int32(t.Stat.Nice))
	return nil
}

// Ended tells of a first thread, by ReadExtra's answer, whether it is to end before
// the others of its process go on, and which signals it then is to have blocked.
func Ended(x kind.Extra) (ends bool, mask uint64, err error) {
	b, err := sized(x, extraEnded, 4)
	if err != nil {
		return false, 0, err
	}
	m, err := sized(x, extraEndedMask, 8)
	if m != nil {
		mask = binary.LittleEndian.Uint64(m)
	}
	return b != nil, mask, err
}
