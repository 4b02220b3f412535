package task

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/vmamem"
)

// FutureLock is that what a process maps from now on is locked,
// mlockall(MCL_FUTURE). No call tells; but the memory that the engine has just
// mapped there is locked then.
type FutureLock struct{}

// MCL_ONFAULT is from include/uapi/asm-generic/mman.h, Linux 4.4.
const mclOnFault = 4

// Name implements kind.Facet.
func (FutureLock) Name() string { return "locks of memory to come" }

// Dump implements kind.Facet. msync(2) with MS_INVALIDATE fails for memory that
// is locked, and does nothing to other memory.
func (FutureLock) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(1)
	call := q.Batch.Try("msync", unix.SYS_MSYNC, uint64(at)&^4095, 4096, unix.MS_ASYNC|unix.MS_INVALIDATE)
	return func(c *core.CoreEntry) error {
		if _, err := call.Result(); !errors.Is(err, unix.EBUSY) {
			return err
		}
		how := byte(unix.MCL_FUTURE)
		areas, err := vmamem.Smaps(q.Task.Dir)
		if err != nil {
			return fmt.Errorf("%v: %w", q.Task, err)
		}
		if onFault(areas, at) {
			how |= mclOnFault
		}
		putExtra(c, extraFutureLock, []byte{how})
		return nil
	}, nil
}

func onFault(areas []proc.VMA, at remote.Addr) bool {
	for i := range areas {
		if a := &areas[i]; a.Start <= uint64(at) && uint64(at) < a.End {
			return a.Flags&proc.VmLockOnFault != 0
		}
	}
	return false
}

// Restore implements kind.Facet. Nothing is mapped behind it.
func (FutureLock) Restore(r *kind.Redo) error {
	b, err := sized(r.Extra, extraFutureLock, 1)
	if b == nil || err != nil {
		return err
	}
	if b[0]&^(unix.MCL_FUTURE|mclOnFault) != 0 || b[0]&unix.MCL_FUTURE == 0 {
		return fmt.Errorf("core-%d.img: a lock of memory to come of %#x makes no sense", r.PID, b[0])
	}
	r.Batch.Call("mlockall", unix.SYS_MLOCKALL, uint64(b[0]))
	return nil
}
