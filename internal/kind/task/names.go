package task

import (
	"bytes"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
)

// Name is a thread's name, see PR_SET_NAME(2const).
type Name struct{}

// commSize is TASK_COMM_LEN.
const commSize = 16

// Name implements kind.Facet.
func (Name) Name() string { return "name" }

// Dump implements kind.Facet.
func (Name) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(commSize)
	q.Batch.Call("prctl PR_GET_NAME", unix.SYS_PRCTL, unix.PR_GET_NAME, uint64(at))
	return func(c *core.CoreEntry) error {
		b, err := q.Batch.Output(at, commSize)
		if err != nil {
			return err
		}
		name, _, _ := bytes.Cut(b, []byte{0})
		comm := string(name)
		c.ThreadCore.Comm = &comm
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (Name) Restore(r *kind.Redo) error {
	name := r.Leader.GetTc().GetComm()
	if tc := r.Core.GetThreadCore(); tc != nil && tc.Comm != nil { // which may be empty
		name = tc.GetComm()
	}
	r.Batch.Call("prctl PR_SET_NAME", unix.SYS_PRCTL, unix.PR_SET_NAME, uint64(r.Batch.String(name)))
	return nil
}
