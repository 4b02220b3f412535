package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	lockimg "glis.dev/glis/image/criu/file-lock"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// Locks are the locks on open files: flock(2), the record locks and leases of
// fcntl(2). They are told with the file they are on, and come back as a part
// of a process, since a record lock belongs to one.
type Locks struct {
	once     sync.Once // of a restore, as the rest
	all      []*lockimg.FileLockEntry
	queued   map[plan.ID][]*lockimg.FileLockEntry // of files that no process has, see lockqueued.go
	unowned  map[plan.Use]bool                    // descriptors with leases whose signals go nowhere, see disowned
	err      error
	broken   map[*lockimg.FileLockEntry]bool // leases that were made with their files, see breakLeases
	breaking bool                            // somebody waits for some lease
}

// criu's numbers for the sorts of locks, which are the kernel's for some.
const (
	lockPosix = 1
	lockFlock = 2
	lockOFD   = 4
	lockLease = 8
)

var lockKinds = map[string]uint32{"POSIX": lockPosix, "FLOCK": lockFlock, "OFDLCK": lockOFD, "LEASE": lockLease}

var lockTypes = map[string]uint32{"READ": unix.F_RDLCK, "WRITE": unix.F_WRLCK, "UNLCK": unix.F_UNLCK}

// DumpFile writes down the locks on a file that the tree holds.
func (*Locks) DumpFile(env *kind.DumpEnv, f *scan.File) error {
	var written map[proc.Lock]bool
	if n := len(f.Info().Locks); n > 0 {
		written = make(map[proc.Lock]bool, n)
	}
	for _, l := range f.Info().Locks {
		if written[l] {
			continue // by another descriptor
		}
		written[l] = true
		if !env.Options.FileLocks {
			return kind.Unsupported(f, "it holds a file lock (%s); use --file-locks, if nobody outside of the tree uses that lock, or let the program release it first", lockText(&l))
		}
		e, err := lockEntry(env, f, &l)
		if err != nil {
			return err
		}
		if err := env.Images.Put(image.FileLocks, e, nil); err != nil {
			return err
		}
	}
	return nil
}

func lockText(l *proc.Lock) string {
	end := "the end"
	if l.End != proc.LockEOF {
		end = fmt.Sprint(l.End)
	}
	return fmt.Sprintf("%s %s, bytes %d to %s", l.Kind, l.Access, l.Start, end)
}

func lockEntry(env *kind.DumpEnv, f *scan.File, l *proc.Lock) (*lockimg.FileLockEntry, error) {
	sort, known := lockKinds[l.Kind]
	typ, ok := lockTypes[l.Access]
	if !known || !ok {
		return nil, kind.Unsupported(f, "it holds a lock of a sort that Glis does not know (%s)", lockText(l))
	}
	var err error
	if sort == lockLease {
		if typ, err = leaseType(f, l.Mode, typ); err != nil {
			return nil, err
		}
	}
	e := &lockimg.FileLockEntry{Flag: &sort, Type: &typ, Pid: proto.Int32(0), Fd: proto.Int32(0), Start: proto.Int64(l.Start), Len: proto.Int64(0)}
	if l.End != proc.LockEOF {
		e.Len = proto.Int64(l.End - l.Start + 1)
	}
	if f.Within != nil && len(f.Users) == 0 {
		return e, queuedLock(f, e)
	}
	user, err := lockUser(env.Tree, f, l)
	if err != nil {
		return nil, err
	}
	*e.Pid, *e.Fd = int32(user.Task.VPID), user.FD
	return e, nil
}

// lockUser returns the descriptor that a lock is taken again by. A record lock
// belongs to whoever has the table of descriptors that it was taken with.
func lockUser(tree *scan.Tree, f *scan.File, l *proc.Lock) (scan.User, error) {
	if l.Kind != "POSIX" {
		return master(f)
	}
	owner := tree.Task(proc.PID(l.PID))
	for _, u := range f.Users {
		if owner != nil && u.Task.IDs.Files == owner.IDs.Files {
			return u, nil
		}
	}
	return scan.User{}, kind.Unsupported(f, "its lock (%s) was taken by process %d, which is not in the tree; let the program release it first", lockText(l), l.PID)
}

// Name implements kind.Facet.
func (*Locks) Name() string { return "file locks" }

// Dump implements kind.Facet: locks come with their files.
func (*Locks) Dump(*kind.Question) (kind.Answer, error) { return nil, nil }

// read reads the locks of all processes, once.
func (k *Locks) read(store image.Store) error {
	k.once.Do(func() {
		k.broken = map[*lockimg.FileLockEntry]bool{}
		k.all, k.err = image.ReadAll[*lockimg.FileLockEntry](store, image.FileLocks)
		if errors.Is(k.err, fs.ErrNotExist) {
			k.err = nil
		}
		for _, e := range k.all {
			if k.err == nil {
				k.err = k.plan(e)
			}
		}
	})
	return k.err
}

// plan takes over an entry.
func (k *Locks) plan(e *lockimg.FileLockEntry) error {
	id, queued := queuedAt(e)
	if queued {
		if k.queued == nil {
			k.queued = map[plan.ID][]*lockimg.FileLockEntry{}
		}
		k.queued[id] = append(k.queued[id], e)
	}
	k.breaking = k.breaking || breaking(e)
	return checkLock(e)
}

// checkLock refuses what no dump writes.
func checkLock(e *lockimg.FileLockEntry) error {
	_, queued := queuedAt(e)
	bad := func(why string) error {
		return fmt.Errorf("filelocks.img: process %d, descriptor %d: a lock of sort %d, type %d, from %d, %d bytes long: %s", e.GetPid(), e.GetFd(), e.GetFlag(), e.GetType(), e.GetStart(), e.GetLen(), why)
	}
	switch {
	case queued && (e.GetPid() != 0 || e.GetFlag() == lockPosix || breaking(e)):
		return bad("no file that is only in a message can have it")
	case e.GetPid() < 1 && !queued || e.GetPid() > maxPID || e.GetFd() < 0 || e.GetFd() > maxFD || e.GetStart() < 0 || e.GetLen() < 0:
		return bad("it can't be")
	case breaking(e):
		if to := e.GetType() &^ leaseBreaking; to != unix.F_RDLCK && to != unix.F_UNLCK {
			return bad("nobody can wait for it to become that")
		}
		return nil
	case e.GetType() != unix.F_RDLCK && e.GetType() != unix.F_WRLCK:
		return bad("neither for reading nor for writing")
	}
	switch e.GetFlag() {
	case lockPosix, lockFlock, lockOFD, lockLease:
		return nil
	}
	return bad("there is no such sort")
}

// Check implements kind.Checker.
func (k *Locks) Check(env *plan.CheckEnv, _ *criu_core.CoreEntry) error {
	err := k.read(env.Store)
	env.Calls(2*len(k.all), sizeofFlock) // a lease may take two; which are whose is asked later
	return err
}

// Restore implements kind.Facet. It must come when nothing of the process is
// closed any more: that would give up its record locks.
func (k *Locks) Restore(r *kind.Redo) error {
	if err := k.read(r.Env.Store); err != nil {
		return err
	}
	for _, e := range k.all {
		switch {
		case uint32(e.GetPid()) != uint32(r.PID):
		case !breaking(e):
			k.take(r, e)
		case !k.broken[e]:
			return fmt.Errorf("filelocks.img: process %d, descriptor %d: a lease that somebody waits for, on something that is no regular file", e.GetPid(), e.GetFd())
		}
	}
	return nil
}

// take queues the call that takes a lock, without waiting for whoever may have
// it by now.
func (k *Locks) take(r *kind.Redo, e *lockimg.FileLockEntry) {
	n, host := uint64(e.GetFd()), r.Host
	var c remote.Call
	switch e.GetFlag() {
	case lockFlock:
		how := uint64(unix.LOCK_SH | unix.LOCK_NB)
		if e.GetType() == unix.F_WRLCK {
			how = unix.LOCK_EX | unix.LOCK_NB
		}
		c = r.Batch.Call("flock", unix.SYS_FLOCK, n, how)
	case lockLease:
		c = r.Batch.Call("fcntl F_SETLEASE", unix.SYS_FCNTL, n, unix.F_SETLEASE, uint64(e.GetType()))
		if k.unowned[leased(e)] {
			r.Batch.Call("fcntl F_SETOWN_EX", unix.SYS_FCNTL, n, linux.F_SETOWN_EX, uint64(r.Batch.Bytes(ownerEx(noneTold))))
		}
	case lockPosix:
		c = r.Batch.Call("fcntl F_SETLK", unix.SYS_FCNTL, n, unix.F_SETLK, uint64(r.Batch.Bytes(flock(e))))
	case lockOFD:
		c = r.Batch.Call("fcntl F_OFD_SETLK", unix.SYS_FCNTL, n, unix.F_OFD_SETLK, uint64(r.Batch.Bytes(flock(e))))
	default:
		return // checkLock knows no other one
	}
	c.Explain(func(err error) error { return notTaken(host, e, err) })
}

// ownerEx is struct f_owner_ex of fcntl(2).
func ownerEx(o linux.FOwnerEx) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(o.Type))
	return binary.NativeEndian.AppendUint32(b, uint32(o.PID))
}

const sizeofFlock = 32

// flock is struct flock of fcntl(2).
func flock(e *lockimg.FileLockEntry) []byte {
	b := make([]byte, sizeofFlock)
	binary.NativeEndian.PutUint16(b, uint16(e.GetType()))
	binary.NativeEndian.PutUint64(b[8:], uint64(e.GetStart()))
	binary.NativeEndian.PutUint64(b[16:], uint64(e.GetLen()))
	return b
}
