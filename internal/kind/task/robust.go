package task

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
)

// RobustList is where the kernel finds the locks that a thread holds when it
// dies, see get_robust_list(2).
type RobustList struct{}

// Name implements kind.Facet.
func (RobustList) Name() string { return "robust futex list" }

// Dump implements kind.Facet.
func (RobustList) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(16)
	q.Batch.Call("get_robust_list", unix.SYS_GET_ROBUST_LIST, 0, uint64(at), uint64(at)+8)
	return func(c *core.CoreEntry) error {
		b, err := q.Batch.Output(at, 16)
		if err != nil {
			return err
		}
		head, size := binary.LittleEndian.Uint64(b), uint32(binary.LittleEndian.Uint64(b[8:]))
		if head == 0 {
			size = 0 // criu writes none then, and sets a list only if it has a length
		}
		c.ThreadCore.FutexRla, c.ThreadCore.FutexRlaLen = &head, &size
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (RobustList) Restore(r *kind.Redo) error {
	t := r.Core.GetThreadCore()
	if t.GetFutexRlaLen() != 0 {
		r.Batch.Call("set_robust_list", unix.SYS_SET_ROBUST_LIST, t.GetFutexRla(), uint64(t.GetFutexRlaLen()))
	}
	return nil
}

// TIDAddress is what the kernel clears and wakes when a thread ends, see
// set_tid_address(2).
type TIDAddress struct{}

// Name implements kind.Facet.
func (TIDAddress) Name() string { return "thread id address" }

// Dump implements kind.Facet.
func (TIDAddress) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(8)
	q.Batch.Call("prctl PR_GET_TID_ADDRESS (the kernel needs CONFIG_CHECKPOINT_RESTORE)", unix.SYS_PRCTL, linux.PR_GET_TID_ADDRESS, uint64(at))
	return func(c *core.CoreEntry) error {
		b, err := q.Batch.Output(at, 8)
		if err != nil {
			return err
		}
		arch.SetClearTID(c, binary.LittleEndian.Uint64(b))
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (TIDAddress) Restore(r *kind.Redo) error {
	if r.Core.GetThreadCore() == nil {
		return fmt.Errorf("core-%d.img: nothing about the thread in it (made by a very old criu?)", r.TID)
	}
	r.Batch.Call("set_tid_address", unix.SYS_SET_TID_ADDRESS, arch.ClearTID(r.Core))
	return nil
}
