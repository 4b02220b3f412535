package task

import (
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
)

// LDT is the table of segments that a process has made with modify_ldt(2), as
// programs of 16 and 32 bits do: one that has any is refused.
type LDT struct{}

// Name implements kind.Facet.
func (LDT) Name() string { return "LDT segments" }

// Dump implements kind.Facet. Reading nothing from a table that is not there
// answers 0; a kernel without tables has no such call.
func (LDT) Dump(q *kind.Question) (kind.Answer, error) {
	if arch.SysModifyLDT == 0 {
		return nil, nil
	}
	const read, segment = 0, 8
	at, _ := q.Batch.Alloc(segment)
	call := q.Batch.Try("modify_ldt", arch.SysModifyLDT, read, uint64(at), segment)
	return func(*core.CoreEntry) error {
		if n, err := call.Result(); err == nil && n > 0 {
			return kind.Unsupported(where(q), "it has LDT segments (modify_ldt(2); wine, dosemu), which cannot be saved yet")
		}
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (LDT) Restore(*kind.Redo) error { return nil }
