package dump

import (
	"fmt"
	"slices"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/scan"
)

// lateSignals looks once more, right before the kill, whether signals came
// while the images were written: copying memory may take seconds. The entries
// of threads that got some are written anew.
func (d *dump) lateSignals() error {
	for _, t := range d.tree.Tasks {
		if err := d.ended(); err != nil {
			return err
		}
		late, err := d.lateFor(t)
		if err != nil {
			return err
		}
		for _, th := range late {
			if err := d.rewriteCore(th); err != nil {
				return fmt.Errorf("%v: signals that came late: %w", t, err)
			}
		}
	}
	return nil
}

// lateFor returns the threads of a task whose entries lack signals. The
// leader is among them if there is any: its entry says whether a signal stops
// the task.
func (d *dump) lateFor(t *scan.Task) ([]*scan.Thread, error) {
	var late []*scan.Thread
	for i, th := range t.Threads {
		if err := d.ended(); err != nil {
			return nil, err
		}
		own, shared := th.Pending, th.Shared
		if err := d.readPending(th); err != nil {
			return nil, err
		}
		if slices.Equal(own, th.Pending) && slices.Equal(shared, th.Shared) {
			continue
		}
		if i > 0 && len(late) == 0 {
			late = append(late, t.Leader())
		}
		late = append(late, th)
	}
	return late, nil
}

func (d *dump) rewriteCore(th *scan.Thread) error {
	if first := th.Task.Ended; first != nil && th == th.Task.Leader() {
		first.Shared = th.Shared
		if err := d.rewriteCore(first); err != nil {
			return err
		}
	}
	id := uint32(th.VTID)
	core, err := image.ReadOne[*criu_core.CoreEntry](d.store, image.Core, id)
	if err != nil {
		return err
	}
	task.PutSignals(core, th)
	if err := d.store.Remove(image.Core.FileName(id)); err != nil {
		return err
	}
	return image.WriteOne(d.store, image.Core, core, id)
}
