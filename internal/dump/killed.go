package dump

import (
	"context"
	"errors"
	"fmt"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// ifKilled says that somebody has killed a task of the tree, if that is why
// the dump failed: what fails first is any system call or file.
func (d *dump) ifKilled(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, kind.ErrUnsupported) {
		return err
	}
	for _, t := range d.tree.Tasks {
		if !t.Zombie && dead(t) {
			return fmt.Errorf("%v was killed while it was dumped: %w", t, err)
		}
	}
	return err
}

// dead tells whether a process has ended, be it that somebody has yet to wait
// for it, or that it is at it, when it has no files and namespaces any more.
func dead(t *scan.Task) bool {
	st, err := t.Dir.Stat()
	if t.Ended != nil {
		st, err = t.Dir.ThreadStat(t.Leader().TID)
	}
	return errors.Is(err, proc.ErrGone) || err == nil && st.Exiting()
}
