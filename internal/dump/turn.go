package dump

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// A tree is dumped by one engine at a time. One that was killed leaves its tree to the guardian,
// which has it stop until its sockets are right (brake.go) and then go on: who came in between
// would take it for one that is stopped anyway, and when the guardian lets it go nothing keeps
// it from its sockets any more. So each engine has a lock, flock(2), on the directory of the tree's root in /proc,
// and its guardian has it, too, until all is done.

// awaitTurn waits for the end of another dump of this tree, or for its being taken back. It
// ends by the context, and by --timeout.
func (d *dump) awaitTurn(ctx context.Context) error {
	n, err := unix.Open(fmt.Sprintf("/proc/%d", d.opts.Tree), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("process %d: %w", d.opts.Tree, err)
	}
	d.turn = fd.New(n)
	if err := d.lockTurn(ctx); err != nil {
		return errors.Join(fmt.Errorf("process %d: %w", d.opts.Tree, err), d.turn.Close())
	}
	return nil
}

func (d *dump) lockTurn(ctx context.Context) error {
	over := d.patience(ctx, "another checkpoint of it is under way, or one whose engine was killed is taken back")
	for waited := false; ; waited = true {
		err := unix.Flock(d.turn.Int(), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == unix.EWOULDBLOCK:
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("lock its directory in /proc: %w", err)
		case waited: // it may have been killed
			return d.checkTarget(ctx)
		default:
			return nil
		}
		if err := over(); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}
