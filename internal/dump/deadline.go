package dump

import (
	"context"
	"fmt"

	"glis.dev/glis/internal/par"
)

// deadline bounds the time that the tree stands still, if that was asked for:
// criu's --timeout is only for the tree to stop, and its default must not end
// the dump of a tree that takes longer to copy.
func (d *dump) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if !d.opts.TimeoutGiven || d.opts.Timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d.opts.Timeout, fmt.Errorf("the tree would have stood still for more than %v (--timeout)", d.opts.Timeout))
}

// ended returns why the tree must not stand still any longer, if that is so. No
// loop over tasks, threads, descriptors or memory goes on for long without
// asking: whatever the size of the tree, it is let go within a tenth of a
// second.
func (d *dump) ended() error {
	if d.ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("dump stopped: %w", context.Cause(d.ctx))
}

// parallel is par.Do that ends early.
func (d *dump) parallel(n int, f func(i int) error) error {
	return par.Do(n, func(i int) error {
		if err := d.ended(); err != nil {
			return err
		}
		return f(i)
	})
}
