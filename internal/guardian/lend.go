package guardian

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// A socket that is only in another one's queue is no descriptor of any task:
// the guardian could not get at it by a number. So it is lent to it, before
// anything of it is changed: it is put into the queue of a socket that the
// engine and the guardian both have, and that the engine can empty again.

// Lent is the number of a process in an Option whose socket was lent.
const Lent = 0

// loan is that socket's two ends. There may be several, as one has room for some 280.
type loan struct{ to, from *fd.FD }

// Lend gives the guardian a copy of one of the engine's descriptors, until
// TakeBack. It does not wait for room, which nobody would make.
func (g *Guard) Lend(n int) error {
	if some := len(g.loans); some > 0 {
		err := fd.Send(g.loans[some-1].to.Int(), []int{n})
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	to, err := g.openLoan()
	if err != nil {
		return fmt.Errorf("lend to the guardian: %w", err)
	}
	return fd.Send(to.Int(), []int{n})
}

func (g *Guard) openLoan() (*fd.FD, error) {
	var l loan
	var err error
	if l.from, err = socketpair(&l.to); err != nil {
		return nil, err
	}
	g.loans = append(g.loans, l)
	return l.to, errors.Join(unix.SetNonblock(l.to.Int(), true), g.Hand([]int{l.from.Int()}))
}

// TakeBack takes back all that was lent. The tree may run only then, or it
// would not be the last to close its sockets.
func (g *Guard) TakeBack() error {
	var errs []error
	for _, l := range g.loans {
		got, err := collect(l.from.Int(), unix.MSG_DONTWAIT)
		errs = append(errs, err, closeAll(got))
	}
	return errors.Join(errs...)
}

func closeAll(all []*fd.FD) error {
	var errs []error
	for _, f := range all {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// setLent sets the option of a socket that is among those lent.
func (o *Option) setLent(lent []*fd.FD) error {
	for _, d := range lent {
		var st unix.Stat_t
		if err := unix.Fstat(d.Int(), &st); err != nil || st.Ino != o.Inode || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			continue
		}
		if err := o.SetBack(d.Int()); err != nil {
			return fmt.Errorf("socket %d: %w", o.Inode, err)
		}
	}
	return nil
}

// sortHanded tells processes from sockets that lent ones are in.
func sortHanded(handed []*fd.FD) (tasks, loans []*fd.FD, err error) {
	for _, f := range handed {
		var st unix.Stat_t
		err = errors.Join(err, unix.Fstat(f.Int(), &st))
		if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			loans = append(loans, f)
		} else {
			tasks = append(tasks, f)
		}
	}
	return tasks, loans, err
}

// collectLent receives what the engine has lent, by way of what it has handed
// over.
func collectLent(handed []*fd.FD) (lent []*fd.FD, err error) {
	for _, from := range handed {
		some, e := collect(from.Int(), 0)
		lent, err = append(lent, some...), errors.Join(err, e)
	}
	return lent, err
}
