package dump

import (
	"context"
	"fmt"
	"time"

	"glis.dev/glis/internal/par"
)

// deadline bounds the time that the tree stands still, if that was asked for:
// criu's --timeout is only for the tree to stop, and its default must not end
// the dump of a tree that takes longer to copy.
func (d *dump) deadline(ctx context.Context) context.Context {
	if !d.opts.TimeoutGiven || d.opts.Timeout <= 0 {
		return ctx
	}
	ctx, cancel := context.WithDeadlineCause(ctx, d.start.Add(d.opts.Timeout), d.tooLong())
	d.atEnd(cancel)
	return ctx
}

func (d *dump) tooLong() error {
	return fmt.Errorf("the tree would have stood still for more than %v (--timeout)", d.opts.Timeout)
}

// sooner is a deadline that leaves time to let the tree go.
func (d *dump) sooner(ctx context.Context) context.Context {
	if !d.opts.TimeoutGiven || d.opts.Timeout <= 0 {
		return ctx
	}
	ctx, cancel := context.WithDeadlineCause(ctx, d.freezer.end.Add(-d.freezer.toLetGo), d.tooLong())
	d.atEnd(cancel)
	return ctx
}

// soon returns that the time is over if what is left of it is less than it takes to
// let the tree go, and to take something back besides.
func (d *dump) soon(takeBack time.Duration) error {
	if !d.opts.TimeoutGiven || d.opts.Timeout <= 0 || time.Until(d.freezer.end) > d.freezer.toLetGo+takeBack {
		return nil
	}
	return fmt.Errorf("dump stopped: %w", d.tooLong())
}

// over returns why the freeze must end, if that is so: also if there is only as much
// time left as it takes to let go of the threads that were seized so far.
func (f *freezer) over() error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	if !f.end.IsZero() && f.toLetGo > 0 && time.Until(f.end) < f.toLetGo {
		return fmt.Errorf("the rest of its time (--timeout) is what it takes to let go of its %d threads: %w", len(f.seized), context.DeadlineExceeded)
	}
	return nil
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
