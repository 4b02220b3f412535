package restore

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/undo"
)

// resumption is a socket with options that are set when the tree is released: a
// descriptor of a task or, if it is in a queue only, one of the engine's.
type resumption struct {
	pid  proc.PID // guardian.Lent, if only the engine has it
	fd   int32
	opts []linux.SockOpt
	own  *fd.FD // the engine's descriptor of it, nil if it has none any more
}

// foresee notes what is to be done at the release. It is called while tasks are at their
// last calls, when all files are made and given out.
func (r *restore) foresee() {
	some := 0
	for _, n := range r.files.nodes {
		if resumes(n) {
			some++
		}
	}
	r.promised = make([]guardian.Option, 0, some)
	r.resumptions = make([]resumption, 0, some)
	for _, n := range r.files.nodes {
		if !resumes(n) {
			continue
		}
		file := r.files.all.At(n.ID())
		at := resumption{opts: n.(plan.Resumer).Resume(), own: file.kept}
		if users := r.plan.Users(n.ID()); len(users) > 0 {
			at.pid, at.fd = proc.PID(users[0].Task), users[0].FD
		} else if at.own = file.open; at.own == nil {
			continue // nobody has it
		}
		for _, o := range at.opts {
			r.promised = append(r.promised, guardian.Option{PID: at.pid, FD: at.fd, Inode: file.inode, SockOpt: o})
		}
		r.resumptions = append(r.resumptions, at)
	}
}

// promise tells the guardian all that is to be done at the release, so that it
// is done even if the engine dies in the middle of it. Before the commit it does none.
func (r *restore) promise() error {
	for i := range r.resumptions {
		if s := &r.resumptions[i]; s.pid == guardian.Lent {
			if err := r.guard.Lend(s.own.Int()); err != nil {
				return err
			}
		}
	}
	if err := r.guard.Options(r.promised); err != nil {
		return err
	}
	r.promised = nil
	if r.kept == "" {
		return nil
	}
	return r.guard.Kept(r.kept)
}

// letThrough lets packets come and go, and gives sockets what they get last.
// The tree is to live whatever becomes of this.
func (r *restore) letThrough() error {
	errs := []error{undo.Again(r.guard.Lock().Release)}
	if r.kept != "" {
		errs = append(errs, undo.Again(func() error { return r.guard.Lock().Unlock(r.kept) }))
	}
	errs = append(errs, setAll(r.resumptions, &r.files.env.Rings), undo.Again(r.guard.TakeBack))
	r.files.letGo()
	return errors.Join(errs...)
}

// mend has the guardian bring to its end what could not be for a tree that lives.
func (r *restore) mend() {
	if r.lived == nil {
		return
	}
	if err := r.guard.GiveUp(); err != nil {
		r.log.Error("The tree runs, but not all of it is as it was", "err", errors.Join(r.lived, err))
		return
	}
	r.log.Warn("The guardian has finished what the restore could not", "err", r.lived)
}

// takenBack has the guardian remove what a restore that failed for the reason
// given could not, and returns what is to be said.
func (r *restore) takenBack(why error) error {
	if r.left == nil {
		return why
	}
	if err := r.guard.GiveUp(); err != nil {
		return errors.Join(why, r.left, err)
	}
	r.log.Warn("The guardian has removed what the restore could not", "err", r.left)
	return why
}

// setAll sets the options of all sockets, on all CPUs, whatever becomes of some.
func setAll(all []resumption, rings *linux.Rings) error {
	tasks := map[proc.PID]int{}
	defer func() {
		for _, n := range tasks {
			_ = unix.Close(n) // nothing is buffered
		}
	}()
	var errs []error
	for i := range all {
		s := &all[i]
		if _, known := tasks[s.pid]; known || s.own != nil {
			continue
		}
		var n int
		err := undo.Again(func() (err error) { n, err = unix.PidfdOpen(int(s.pid), 0); return err })
		if err != nil {
			errs = append(errs, fmt.Errorf("task %d: open a pidfd: %w", s.pid, err))
			n = -1
		}
		tasks[s.pid] = n
	}
	var mu sync.Mutex
	chunks := slices.Collect(slices.Chunk(all, setAtOnce))
	_ = par.Long(len(chunks), func(i int) error {
		if setTogether(chunks[i], rings) {
			closeOwn(chunks[i])
			return nil
		}
		for j := range chunks[i] {
			s := &chunks[i][j]
			if err := undo.Again(func() error { return s.set(tasks[s.pid]) }); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		}
		closeOwn(chunks[i])
		return nil
	})
	return errors.Join(errs...)
}

// setAtOnce is how many sockets are closed at a time.
const setAtOnce = 64

// setTogether sets the options of many sockets that the engine has by a few system calls.
// It tells whether that is done: what was may be done again.
func setTogether(all []resumption, rings *linux.Rings) bool {
	if len(all) < setAtOnce {
		return false
	}
	h := rings.Take()
	defer rings.Give(h)
	for _, s := range all {
		if s.own == nil || slices.ContainsFunc(s.opts, func(o linux.SockOpt) bool { return o.Level == linux.LevelIoctl }) {
			return false
		}
		for _, o := range s.opts {
			set := func() error { return h.SetsockoptInt(s.own.Int(), o.Level, o.Name, o.Value) }
			err := set()
			if errors.Is(err, unix.ENOBUFS) { // there is no room for more
				err = errors.Join(h.Run(), set())
			}
			if err != nil {
				return false
			}
		}
	}
	return h.Run() == nil
}

// closeOwn closes what the engine has: the tree is to be the last to close it.
func closeOwn(all []resumption) {
	var own []*fd.FD
	for _, s := range all {
		if s.own != nil {
			own = append(own, s.own)
		}
	}
	fd.CloseAll(own)
}

// set sets the options of a socket that the engine has, or else a task.
func (s *resumption) set(pidfd int) error {
	d := s.own
	if d == nil {
		var err error
		if d, err = fd.Borrow(pidfd, s.fd); err != nil {
			return fmt.Errorf("task %d: %w", s.pid, err)
		}
		defer d.Close()
	}
	for _, o := range s.opts {
		if err := o.Set(d.Int()); err != nil {
			return fmt.Errorf("task %d, descriptor %d: %w", s.pid, s.fd, err)
		}
	}
	return nil
}
