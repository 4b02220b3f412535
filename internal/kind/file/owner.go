package file

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// noOwner is the entry of a file whose signals go nowhere.
func noOwner() *fown.FownEntry {
	return &fown.FownEntry{Uid: proto.Uint32(0), Euid: proto.Uint32(0), Signum: proto.Uint32(0), PidType: proto.Uint32(0), Pid: proto.Uint32(0)}
}

// readOwner reads who is told of I/O on a file, and by which signal: see
// F_GETOWN_EX and F_GETSIG in fcntl(2).
func readOwner(env *kind.DumpEnv, f *scan.File, d *fd.FD) (*fown.FownEntry, error) {
	e := noOwner()
	return e, fillOwner(env, f, d, e)
}

// borrowOwner is readOwner for a file that nothing else is asked.
func borrowOwner(env *kind.DumpEnv, f *scan.File) (*fown.FownEntry, error) {
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	e, err := readOwner(env, f, d)
	return e, errors.Join(err, d.Close())
}

// fillOwner is readOwner into an entry that has all its values.
func fillOwner(env *kind.DumpEnv, f *scan.File, d *fd.FD, e *fown.FownEntry) error {
	o, err := ownerOf(f, d)
	if err != nil || o == nil {
		return err
	}
	*e.Signum = o.Signal
	if o.PID == 0 {
		return nil
	}
	pid, err := ownerNumber(env.Tree, f, o.FOwnerEx)
	if err != nil {
		return err
	}
	*e.Pid, *e.PidType, *e.Uid, *e.Euid = pid, uint32(o.Type), o.UID, o.EUID
	return nil
}

// ownerOf returns who is told of I/O on a file; of one that can't be asked it is known.
func ownerOf(f *scan.File, d *fd.FD) (*sockmem.Owner, error) {
	if f.Hangs != nil {
		return f.Hangs.Owner, nil
	}
	sig, err := unix.FcntlInt(uintptr(d.Int()), linux.F_GETSIG, 0)
	if err != nil {
		return nil, fmt.Errorf("%v: ask for its signal: %w", f, err)
	}
	o := &sockmem.Owner{Signal: uint32(sig)}
	if o.FOwnerEx, err = linux.FcntlGetOwnerEx(d.Int()); err != nil {
		return nil, fmt.Errorf("%v: ask for its owner: %w", f, err)
	}
	if o.PID == 0 {
		return o, nil
	}
	if o.UID, o.EUID, err = linux.FcntlGetOwnerUIDs(d.Int()); err != nil {
		return nil, fmt.Errorf("%v: ask for the user of its owner (needs a kernel with CONFIG_CHECKPOINT_RESTORE): %w", f, err)
	}
	return o, nil
}

// ownerNumber returns the owner's number in the tree's own namespace. An owner
// outside of the tree would be another process after a restore.
func ownerNumber(t *scan.Tree, f *scan.File, who linux.FOwnerEx) (uint32, error) {
	for _, task := range t.Tasks {
		switch {
		case who.Type == linux.F_OWNER_PGRP && int32(task.Stat.Pgrp) == who.PID:
			if leader := t.Task(proc.PID(who.PID)); leader != nil {
				return uint32(leader.VPID), nil
			}
			return uint32(who.PID), nil
		case who.Type != linux.F_OWNER_PGRP && int32(task.PID) == who.PID:
			return uint32(task.VPID), nil
		}
	}
	if who.Type == linux.F_OWNER_TID {
		return 0, kind.Unsupported(f, "its signals go to thread %d, which is not the first of a process of the tree; use F_SETOWN or F_OWNER_PID instead", who.PID)
	}
	return 0, kind.Unsupported(f, "its signals go to %d, which is outside of the tree; dump that process too, or reset the owner with F_SETOWN", who.PID)
}

// owner is a FownEntry that was checked.
type owner struct {
	sig       int
	who       linux.FOwnerEx
	uid, euid uint32
}

// maxPID is PID_MAX_LIMIT of include/linux/threads.h on 64 bits.
const maxPID = 1 << 22

// planOwner checks the owner of a file. No entry means no owner.
func planOwner(e *fown.FownEntry) (owner, error) {
	sig, typ, pid := e.GetSignum(), e.GetPidType(), e.GetPid()
	if sig > linux.NSIG || typ > linux.F_OWNER_PGRP || pid > maxPID {
		return owner{}, fmt.Errorf("owner %d of type %d with signal %d can't be", pid, typ, sig)
	}
	return owner{sig: int(sig), who: linux.FOwnerEx{Type: int32(typ), PID: int32(pid)}, uid: e.GetUid(), euid: e.GetEuid()}, nil
}

// any tells whether anybody is told of anything, or would be by a signal of choice.
func (o owner) any() bool { return o.sig != 0 || o.who.PID != 0 }

// set makes this the owner of a file of the engine's. Its process must exist.
func (o owner) set(d *fd.FD) error {
	if o.sig != 0 {
		if _, err := unix.FcntlInt(uintptr(d.Int()), linux.F_SETSIG, o.sig); err != nil {
			return fmt.Errorf("set signal %d: %w", o.sig, err)
		}
	}
	if o.who.PID == 0 {
		return nil
	}
	if o.uid == uint32(unix.Getuid()) && o.euid == uint32(unix.Geteuid()) {
		return o.setWho(d)
	}
	return o.setAs(d)
}

func (o owner) setWho(d *fd.FD) error {
	if err := linux.FcntlSetOwnerEx(d.Int(), o.who); err != nil {
		return fmt.Errorf("make %d its owner: %w", o.who.PID, err)
	}
	return nil
}

// setAs is setWho as another user: the kernel checks later signals against the
// user who set the owner. User IDs are a thread's own; that thread is thrown
// away afterwards, by not unlocking it.
func (o owner) setAs(d *fd.FD) error {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("PR_GET_DUMPABLE: %w", err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(o.uid), uintptr(o.euid), ^uintptr(0))
		if e != 0 {
			done <- fmt.Errorf("become user %d/%d to set the owner: %w", o.uid, o.euid, e)
			return
		}
		done <- o.setWho(d)
	}()
	err = <-done
	// Another effective user made the whole engine undumpable.
	if back := unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable), 0, 0, 0); back != nil && err == nil {
		err = fmt.Errorf("PR_SET_DUMPABLE: %w", back)
	}
	return err
}
