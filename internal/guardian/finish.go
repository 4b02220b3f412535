package guardian

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/proc"
)

// unlock lets through what the table that outlives the engine holds back.
func (s *story) unlock() error {
	if s.kept == "" {
		return nil
	}
	return netlock.Unlock(s.kept)
}

// goOn lets the processes go on that were braked. One that has not got as far
// as stopping does not then.
func (s *story) goOn() error {
	var errs []error
	for _, pid := range s.braked {
		if err := unix.Kill(int(pid), unix.SIGCONT); err != nil && err != unix.ESRCH {
			errs = append(errs, fmt.Errorf("task %d: let it go on: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// unlink takes names of files away.
func (s *story) unlink() error {
	var errs []error
	for _, n := range s.names {
		var st unix.Stat_t
		if err := unix.Lstat(n.path, &st); err != nil || st.Dev != n.dev || st.Ino != n.ino {
			continue // it was not made, or is somebody else's
		}
		if err := unix.Unlink(n.path); err != nil && err != unix.ENOENT {
			errs = append(errs, fmt.Errorf("remove the name %s: %w", n.path, err))
		}
	}
	return errors.Join(errs...)
}

// removeShms removes the System V shared memory that the engine has made.
func (s *story) removeShms() error {
	var errs []error
	for _, m := range s.shms {
		var ds unix.SysvShmDesc
		if _, err := unix.SysvShmCtl(int(m.id), unix.IPC_STAT, &ds); err != nil || ds.Cpid != m.creator {
			continue // it was not made, or is somebody else's
		}
		if _, err := unix.SysvShmCtl(int(m.id), unix.IPC_RMID, nil); err != nil && err != unix.EINVAL && err != unix.EIDRM {
			errs = append(errs, fmt.Errorf("remove System V shared memory %d: %w", m.id, err))
		}
	}
	return errors.Join(errs...)
}

// setOptions sets what the journal wants set, as far as the sockets are there.
func (s *story) setOptions(lent []*fd.FD) error {
	var errs []error
	tasks := map[proc.PID]*fd.FD{}
	for _, o := range s.options {
		if o.PID == Lent {
			errs = append(errs, o.setLent(lent))
			continue
		}
		p, ok := tasks[o.PID]
		if !ok {
			var err error
			switch p, err = fd.Task(int(o.PID)); {
			case err == nil:
				defer p.Close()
			case err != unix.ESRCH:
				errs = append(errs, fmt.Errorf("task %d: pidfd_open: %w", o.PID, err))
			}
			tasks[o.PID] = p
		}
		if p != nil { // else it has ended, and its socket with it, or can't be had
			errs = append(errs, o.set(p.Int()))
		}
	}
	return errors.Join(errs...)
}

// set sets the option of a socket of the process behind pidfd. One that was
// closed meanwhile needs nothing.
func (o *Option) set(pidfd int) error {
	d, err := fd.Borrow(pidfd, o.FD)
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("task %d: %w", o.PID, err)
	}
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(d.Int(), &st); err != nil || st.Ino != o.Inode {
		return err
	}
	if err := o.SetBack(d.Int()); err != nil {
		return fmt.Errorf("task %d, descriptor %d: %w", o.PID, o.FD, err)
	}
	return nil
}

// killTasks ends all processes of the tree, children first, and waits until
// none lives.
func (s *story) killTasks() error {
	var errs []error
	var pidfds []*fd.FD
	for i := len(s.tasks) - 1; i >= 0; i-- {
		t := s.tasks[i]
		n, err := unix.PidfdOpen(int(t.PID), 0)
		if err == unix.ESRCH {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("task %d: %w", t.PID, err))
			continue
		}
		p := fd.New(n)
		there, err := t.there()
		if !there {
			errs = append(errs, err, p.Close())
			continue
		}
		pidfds = append(pidfds, p)
	}
	return errors.Join(append(errs, killAll(pidfds))...)
}

// awaitEnds waits until none of the processes that the engine was to make is
// alive: the kernel ends them with it (PTRACE_O_EXITKILL), but not at once.
func (s *story) awaitEnds() error {
	var errs []error
	deadline := time.Now().Add(within)
	for _, t := range s.tasks {
		n, err := unix.PidfdOpen(int(t.PID), 0)
		if err == unix.ESRCH {
			continue // it is gone, or was never there
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("process %d: pidfd_open: %w", t.PID, err))
			continue
		}
		p := fd.New(n)
		if !ended(p.Int(), deadline) {
			errs = append(errs, fmt.Errorf("process %d has not ended with Glis", t.PID))
		}
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// within is how long a process that is killed may take to end.
const within = 10 * time.Second

// there tells whether the process is still the one that is meant.
func (t Task) there() (bool, error) {
	dir, err := proc.Open(t.PID)
	if errors.Is(err, proc.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	st, err := dir.Stat()
	if errors.Is(err, proc.ErrGone) {
		return false, nil
	}
	return err == nil && st.StartTime == t.Start, err
}

// killAll ends processes and waits for their ends.
func killAll(pidfds []*fd.FD) error {
	var errs []error
	for _, p := range pidfds {
		if err := unix.PidfdSendSignal(p.Int(), unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			errs = append(errs, fmt.Errorf("kill: %w", err))
		}
	}
	deadline := time.Now().Add(within)
	for _, p := range pidfds {
		if !ended(p.Int(), deadline) {
			errs = append(errs, fmt.Errorf("a killed process has not ended within %v", within))
		}
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// ended waits for the end of a process.
func ended(pidfd int, deadline time.Time) bool {
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}
