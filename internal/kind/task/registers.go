package task

import (
	"fmt"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
)

// Registers are the general and extended registers, and where in an
// interrupted system call the thread is. They come back through ptrace when
// all else is done, see Wake.
type Registers struct{}

// Name implements kind.Facet.
func (Registers) Name() string { return "registers" }

// Dump implements kind.Facet.
func (Registers) Dump(q *kind.Question) (kind.Answer, error) {
	t := q.Thread
	if !arch.Native(&t.Regs) {
		return nil, kind.Unsupported(where(q), "it runs 32-bit code; run the 64-bit program instead")
	}
	if err := arch.Segments(&t.Regs); err != nil {
		return nil, kind.Unsupported(where(q), "%v, a 32-bit or emulator feature that images have no place for", err)
	}
	if s := t.Status.ThreadFeatures; s != "" {
		return nil, kind.Unsupported(where(q), "it uses the shadow stack (%s); start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off", s)
	}
	return func(c *core.CoreEntry) error { return putRegisters(q, c) }, nil
}

func putRegisters(q *kind.Question, c *core.CoreEntry) error {
	regs, restart, err := foldRestart(q.Thread)
	if err != nil {
		return err
	}
	if restart != nil {
		putExtra(c, extraRestart, restart.encode())
	}
	if err := arch.PutCore(c, &regs, q.Thread.XState); err != nil {
		return fmt.Errorf("%s: %w", where(q), err)
	}
	extra, err := arch.XStateExtra(q.Thread.XState)
	if err != nil {
		return fmt.Errorf("%s: %w", where(q), err)
	}
	if extra != nil {
		putExtra(c, extraXState, extra)
	}
	return nil
}

// Restore implements kind.Facet.
func (Registers) Restore(*kind.Redo) error { return nil }

// where names the thread that is asked, for messages.
func where(q *kind.Question) string {
	if len(q.Task.Threads) > 0 && q.Thread != q.Task.Leader() {
		return fmt.Sprintf("%v, thread %d", q.Task, q.Thread.TID)
	}
	return q.Task.String()
}
