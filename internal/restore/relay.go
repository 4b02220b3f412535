package restore

import (
	"fmt"

	"glis.dev/glis/internal/remote"
)

// relay is batches of tasks that run one after the other, while the engine makes
// ready what comes next. The zero value is ready.
type relay struct {
	task  *task
	batch *remote.Batch // nil: none runs
	then  func() error  // when it has
}

// next starts a batch when the one before has run; then is done while it does.
func (r *relay) next(t *task, b *remote.Batch, then func() error) error {
	if err := b.Seal(); err != nil {
		return err
	}
	before := *r
	*r = relay{}
	if err := before.await(); err != nil {
		return err
	}
	if err := b.Start(); err != nil {
		return err
	}
	*r = relay{t, b, then}
	return before.after()
}

// end waits for the batch that runs, if any.
func (r *relay) end() error {
	last := *r
	*r = relay{}
	if err := last.await(); err != nil {
		return err
	}
	return last.after()
}

func (r *relay) await() error {
	if r.batch == nil {
		return nil
	}
	if err := r.batch.Wait(); err != nil {
		return fmt.Errorf("%v: %w", r.task, err)
	}
	return nil
}

func (r *relay) after() error {
	if r.batch == nil {
		return nil
	}
	if err := r.then(); err != nil {
		return fmt.Errorf("%v: %w", r.task, err)
	}
	return nil
}
