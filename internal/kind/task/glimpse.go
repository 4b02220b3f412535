package task

import (
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
)

// What a thread that is like another one in the kernel's memory has not to be asked
// for: see kind.Glimpser. taskmem compares all that the answers below come from;
// whoever adds a question adds where its answer comes from there.

// Glimpse implements kind.Glimpser.
func (Personality) Glimpse(_ *kind.Question, its kind.Answer) (kind.Answer, error) { return its, nil }

// Glimpse implements kind.Glimpser.
func (Attributes) Glimpse(_ *kind.Question, its kind.Answer) (kind.Answer, error) { return its, nil }

// Glimpse implements kind.Glimpser.
func (TSC) Glimpse(_ *kind.Question, its kind.Answer) (kind.Answer, error) { return its, nil }

// Glimpse implements kind.Glimpser.
func (Sched) Glimpse(_ *kind.Question, its kind.Answer) (kind.Answer, error) { return its, nil }

// Glimpse implements kind.Glimpser.
func (Affinity) Glimpse(_ *kind.Question, its kind.Answer) (kind.Answer, error) { return its, nil }

// Glimpse implements kind.Glimpser.
func (MemPolicy) Glimpse(_ *kind.Question, its kind.Answer) (kind.Answer, error) { return its, nil }

// Glimpse implements kind.Glimpser.
func (*Unseen) Glimpse(_ *kind.Question, its kind.Answer) (kind.Answer, error) { return its, nil }

// Glimpse implements kind.Glimpser.
func (Creds) Glimpse(_ *kind.Question, its kind.Answer) (kind.Answer, error) { return its, nil }

// Glimpse implements kind.Glimpser: nobody asks for it.
func (r Registers) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) { return r.Dump(q) }

// Glimpse implements kind.Glimpser: nobody asks for it.
func (r Rseq) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) { return r.Dump(q) }

// Glimpse implements kind.Glimpser: nobody asks for it.
func (s Signals) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) { return s.Dump(q) }

// Glimpse implements kind.Glimpser: nobody asks for it.
func (s Seccomp) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) { return s.Dump(q) }

// Glimpse implements kind.Glimpser.
func (TIDAddress) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) {
	return func(c *core.CoreEntry) error {
		arch.SetClearTID(c, q.Thread.Seen.ClearTID)
		return nil
	}, nil
}

// robustHead is the size of struct robust_list_head, the only one that
// set_robust_list(2) takes.
const robustHead = 24

// Glimpse implements kind.Glimpser.
func (RobustList) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) {
	return func(c *core.CoreEntry) error {
		head, size := q.Thread.Seen.RobustList, uint32(robustHead)
		if head == 0 {
			size = 0
		}
		c.ThreadCore.FutexRla, c.ThreadCore.FutexRlaLen = &head, &size
		return nil
	}, nil
}

// Glimpse implements kind.Glimpser. Whether the stack is in use follows from where
// the thread's own one is.
func (AltStack) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) {
	return func(c *core.CoreEntry) error {
		s := q.Thread.Seen.AltStack
		own := arch.SP(&q.Thread.Regs)
		flags := s.Flags & linux.SS_AUTODISARM
		switch {
		case s.Size == 0:
			flags |= linux.SS_DISABLE
		case flags == 0 && own > s.SP && own-s.SP <= s.Size:
			flags |= linux.SS_ONSTACK
		}
		c.ThreadCore.Sas = &core.ThreadSasEntry{SsSp: &s.SP, SsFlags: &flags, SsSize: &s.Size}
		return nil
	}, nil
}

// Glimpse implements kind.Glimpser.
func (Name) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) {
	return func(c *core.CoreEntry) error {
		name := q.Thread.Seen.Name
		c.ThreadCore.Comm = &name
		return nil
	}, nil
}

// Glimpse implements kind.Glimpser.
func (DeathSignal) Glimpse(q *kind.Question, _ kind.Answer) (kind.Answer, error) {
	return func(c *core.CoreEntry) error {
		if v := q.Thread.Seen.DeathSignal; v != 0 {
			c.ThreadCore.PdeathSig = &v
		}
		return nil
	}, nil
}
