package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
)

// Unseen is what a thread can be asked for and no image has a word for: a
// thread that has any of it is refused.
type Unseen struct{}

// Name implements kind.Facet.
func (Unseen) Name() string { return "states without a place in images" }

// Dump implements kind.Facet. Who is not allowed to ask has not been allowed to
// set it either, mostly, and kernels without it say EINVAL.
func (Unseen) Dump(q *kind.Question) (kind.Answer, error) {
	flusher := q.Batch.Try("prctl PR_GET_IO_FLUSHER", unix.SYS_PRCTL, unix.PR_GET_IO_FLUSHER)
	at, _ := q.Batch.Alloc(8)
	cookie := q.Batch.Try("prctl PR_SCHED_CORE", unix.SYS_PRCTL, unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, 0, linux.PIDTYPE_PID, uint64(at))
	return func(*core.CoreEntry) error {
		if v, err := flusher.Result(); err == nil && v == 1 {
			return kind.Unsupported(where(q), "it writes out memory for others (PR_SET_IO_FLUSHER), which cannot be saved; run it without")
		}
		if _, err := cookie.Result(); err != nil {
			return nil
		}
		b, err := q.Batch.Output(at, 8)
		if err == nil && binary.NativeEndian.Uint64(b) != 0 {
			err = kind.Unsupported(where(q), "it shares a core with chosen others only (a cookie of core scheduling), which cannot be saved; start it without")
		}
		return err
	}, nil
}

// Restore implements kind.Facet.
func (Unseen) Restore(*kind.Redo) error { return nil }
