package file

import (
	"fmt"

	"golang.org/x/sys/unix"

	lockimg "glis.dev/glis/image/criu/file-lock"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// The locks of an open file that is only in a message are its own, not a process's: those of
// flock(2), of F_OFD_SETLK, and leases. No process could take them again by a descriptor, so
// whoever makes the file does. criu passes over such an entry, which is of process 0.

// queuedLock adds to an entry which file it is of.
func queuedLock(f *scan.File, e *lockimg.FileLockEntry) error {
	switch {
	case breaking(e):
		return kind.Unsupported(f, "it is only in a message, and somebody waits for its lease to be given up; let the process receive it first")
	case e.GetFlag() == lockLease:
		if err := plainLease(f); err != nil {
			return err
		}
	}
	putVarint(e, lockFile, uint64(f.ID))
	return nil
}

// plainLease refuses a lease whose signal names the descriptor that it was taken by (si_fd):
// nobody has that any more.
func plainLease(f *scan.File) error {
	d, err := f.Borrow()
	if err != nil {
		return err
	}
	defer d.Close()
	o, err := ownerOf(f, d)
	if err == nil && o != nil && o.Signal != 0 {
		return kind.Unsupported(f, "it is only in a message, and has a lease that is told of by signal %d (F_SETSIG), which names a descriptor; let the process receive it first", o.Signal)
	}
	return err
}

// queuedAt returns which file a lock is of, if that is only in a message.
func queuedAt(e *lockimg.FileLockEntry) (plan.ID, bool) {
	id, _, ok := extra(e, lockFile)
	return plan.ID(id), ok
}

// Complete makes sure that the files are there, in messages only, that locks are of which no
// process takes, and finds whom leases tell. Check has read them.
func (k *Locks) Complete(p *plan.Plan) error {
	for id, all := range k.queued {
		if p.Node(id) == nil || len(p.Users(id)) > 0 {
			return fmt.Errorf("filelocks.img: a lock of sort %d is said to be of file %#x, which isn't there, or not only in a message", all[0].GetFlag(), id)
		}
	}
	return k.disowned(p)
}

// TakeQueued takes the locks of a new file that is only in a message.
func (k *Locks) TakeQueued(id plan.ID, own *fd.FD) error {
	for _, e := range k.queued[id] {
		if err := takeOwn(own.Int(), e); err != nil {
			return notTakenHere(own, e, err)
		}
	}
	return nil
}

// takeOwn takes a lock by a descriptor of the engine's, without waiting for whoever may
// have it by now.
func takeOwn(own int, e *lockimg.FileLockEntry) error {
	switch e.GetFlag() {
	case lockFlock:
		how := unix.LOCK_SH
		if e.GetType() == unix.F_WRLCK {
			how = unix.LOCK_EX
		}
		return unix.Flock(own, how|unix.LOCK_NB)
	case lockOFD:
		return unix.FcntlFlock(uintptr(own), unix.F_OFD_SETLK, &unix.Flock_t{Type: int16(e.GetType()), Start: e.GetStart(), Len: e.GetLen()})
	}
	return takeLease(own, e.GetType())
}

// takeLease takes a lease. Who does is the owner of a file that has none, which is taken back.
func takeLease(own int, typ uint32) error {
	was, err := linux.FcntlGetOwnerEx(own)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(own), unix.F_SETLEASE, int(typ)); err != nil || was.PID != 0 {
		return err
	}
	return linux.FcntlSetOwnerEx(own, noneTold)
}
