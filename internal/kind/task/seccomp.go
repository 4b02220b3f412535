package task

import (
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// Seccomp is the system-call filter of a thread, which can't be carried over
// yet.
type Seccomp struct{}

// Name implements kind.Facet.
func (Seccomp) Name() string { return "seccomp" }

// Dump implements kind.Facet.
func (Seccomp) Dump(q *kind.Question) (kind.Answer, error) {
	switch q.Thread.Status.Seccomp {
	case 0:
		return nil, nil
	case linux.SECCOMP_MODE_STRICT:
		return nil, kind.Unsupported(where(q), "it is in strict seccomp mode, which cannot be saved yet; run it without")
	}
	return nil, kind.Unsupported(where(q), "it has %d seccomp filters, which cannot be saved yet; run it without (docker: --security-opt seccomp=unconfined)", q.Thread.Status.SeccompFilters)
}

// Check implements kind.Checker.
func (Seccomp) Check(_ *plan.CheckEnv, c *core.CoreEntry) error {
	for _, mode := range []core.SeccompMode{c.GetThreadCore().GetSeccompMode(), c.GetTc().GetOldSeccompMode()} {
		if mode != core.SeccompMode_disabled {
			return kind.Unsupported("core image, seccomp", "mode %v cannot be restored yet", mode)
		}
	}
	return nil
}

// Restore implements kind.Facet.
func (Seccomp) Restore(*kind.Redo) error { return nil }
