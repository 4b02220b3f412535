package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// A signal that tells of I/O on a file (O_ASYNC, F_SETSIG) says on which descriptor
// (si_fd): the one by which it was asked for, which was the engine's when the file
// was made. The first task that has it asks once more, when all else is done.
func (r *restore) askAsync() error {
	todo := map[uint32][]int32{} // descriptors, by task
	other := map[uint32][]asked{}
	for _, n := range r.files.nodes {
		if a, ok := n.(plan.Asker); ok {
			for i, u := range a.Asked() {
				other[u.Task] = append(other[u.Task], asked{a, i})
			}
		}
		a, ok := n.(plan.Async)
		if !ok || a.FileFlags()&unix.O_ASYNC == 0 {
			continue
		}
		if users := r.plan.Users(n.ID()); len(users) > 0 {
			todo[users[0].Task] = append(todo[users[0].Task], users[0].FD)
		}
	}
	for _, t := range r.tree.tasks {
		if err := errors.Join(t.askAsync(todo[t.pid]), t.askOther(other[t.pid])); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

// asked is one of what is asked for by descriptors of a file.
type asked struct {
	plan.Asker
	i int
}

// askOther has a task ask for what files were asked for by its descriptors.
func (t *task) askOther(all []asked) error {
	if len(all) == 0 {
		return nil
	}
	b := t.live.arena.Batch(t.live.thread)
	for _, a := range all {
		a.Ask(batcher{b, t.live.table}, a.i)
	}
	return b.Run()
}

// askAsync has a task ask for the signals of its descriptors, first to have none:
// the kernel only notes a change. Other flags stay as they are. A file with a lease has
// the flag as well, and nobody can ask about its I/O (ENOTTY).
func (t *task) askAsync(fds []int32) error {
	if len(fds) == 0 {
		return nil
	}
	b := t.live.arena.Batch(t.live.thread)
	off, on := b.U64(0), b.U64(1)
	var asked []remote.Call
	for _, n := range fds {
		asked = append(asked, b.Try("ioctl FIOASYNC", unix.SYS_IOCTL, uint64(n), linux.FIOASYNC, uint64(off)),
			b.Try("ioctl FIOASYNC", unix.SYS_IOCTL, uint64(n), linux.FIOASYNC, uint64(on)))
	}
	if err := b.Run(); err != nil {
		return err
	}
	for i, c := range asked {
		if _, err := c.Result(); err != nil && !errors.Is(err, unix.ENOTTY) {
			return fmt.Errorf("descriptor %d: %w", fds[i/2], err)
		}
	}
	return nil
}
