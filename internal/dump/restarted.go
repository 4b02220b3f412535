package dump

import (
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// seeRestarted has the kernel's memory say which call a thread is in where nothing
// else does: see task.Guessed. It is read if there is such a thread only, as that
// takes milliseconds.
func (d *dump) seeRestarted() error {
	memory := kmem.Share(task.BlockNames()...)
	defer memory.Close()
	for _, th := range d.threads() {
		if err := d.ended(); err != nil {
			return err
		}
		guessed, err := task.Guessed(th)
		if err != nil {
			return kind.About(th.Task, err)
		}
		if !guessed {
			continue
		}
		if th.Block, err = blockOf(memory, th); err != nil {
			d.log.Debug("nobody tells which call a thread is in, which will end with EINTR", "thread", int(th.TID), "why", err)
		}
	}
	return nil
}

// blockOf reads what the kernel has about a thread's interrupted call.
func blockOf(memory *kmem.Shared, th *scan.Thread) (*scan.Block, error) {
	r, err := memory.Reader()
	if err != nil {
		return nil, err
	}
	pidfd, err := fd.Task(int(th.TID))
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	return task.ReadBlock(r, pidfd.Int())
}
