package file

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	lockimg "glis.dev/glis/image/criu/file-lock"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// A lease that somebody has asked for (see fcntl(2)) is shown as what it is to
// become. At a restore it is taken as what it was, and asked for again, by an
// open that does not wait: before the file has its owner, who has been told
// already.

// leaseBreaking is what CRIU adds to the type of a lease that somebody wants
// to break.
const leaseBreaking = 4

// breaking tells whether an entry is a lease that somebody waits for.
func breaking(e *lockimg.FileLockEntry) bool {
	return e.GetFlag() == lockLease && e.GetType()&leaseBreaking != 0
}

// leaseType adds that a lease is about to be given up to its type.
func leaseType(f *scan.File, mode string, typ uint32) (uint32, error) {
	switch {
	case mode == "ACTIVE" && typ == unix.F_RDLCK && access(f.Flags) != unix.O_RDONLY && !(&Memfd{}).Match(f):
		// The kernel gives nobody such a one, but of memfds, which it doesn't take for open for writing.
		return 0, kind.Unsupported(f, "its lease lets others read, and it is open for writing: it was made that when somebody had waited for the whole of lease-break-time, which Glis can't restore; let the program give the lease up")
	case mode == "ACTIVE":
		return typ, nil
	case mode == "BREAKING" && typ != unix.F_WRLCK && (&Regular{}).Match(f) && !(&Memfd{}).Match(f):
		return typ | leaseBreaking, nil
	}
	return 0, kind.Unsupported(f, "somebody waits for its lease to be given up (%s), in a way that Glis can't restore; let the program do that first", mode)
}

// noneTold is the owner of a file that has none: who takes a lease is one, if nobody else is.
// Such an owner may have ended since, and left this behind.
var noneTold = linux.FOwnerEx{Type: linux.F_OWNER_PID}

// leased is the descriptor that a lease is taken by.
func leased(e *lockimg.FileLockEntry) plan.Use {
	return plan.Use{Task: uint32(e.GetPid()), FD: e.GetFd()}
}

// disowned finds those leases whose signals go nowhere, which they must not do to whoever
// takes them again. Files have their owners by then.
func (k *Locks) disowned(p *plan.Plan) error {
	k.unowned = map[plan.Use]bool{}
	for _, e := range k.all {
		if _, queued := queuedAt(e); e.GetFlag() == lockLease && !queued && !breaking(e) {
			k.unowned[leased(e)] = false
		}
	}
	if len(k.unowned) == 0 {
		return nil
	}
	nodes, err := p.Nodes()
	for _, n := range nodes {
		if o, ok := n.(interface{ owned() bool }); !ok || o.owned() {
			continue
		}
		for _, u := range p.Users(n.ID()) {
			at := plan.Use{Task: u.Task, FD: u.FD}
			if _, ok := k.unowned[at]; ok {
				k.unowned[at] = true
			}
		}
	}
	return err
}

// anyBreaking tells whether somebody waits for any lease. Check has read them.
func (k *Locks) anyBreaking() bool { return k != nil && k.breaking }

// breakLeases makes those leases on a new file again that somebody waits for.
func (k *Locks) breakLeases(env *plan.Env, users []plan.Use, flags uint32, d *fd.FD) error {
	if err := k.read(env.Store); err != nil {
		return err
	}
	if !k.breaking {
		return nil
	}
	for _, e := range k.all {
		if !breaking(e) {
			continue
		}
		for _, u := range users {
			if uint32(e.GetPid()) == u.Task && e.GetFd() == u.FD {
				if err := breakLease(d, e.GetType()&^leaseBreaking, access(flags)); err != nil {
					return fmt.Errorf("a lease that somebody waits for: %w", err)
				}
				k.broken[e] = true
				break
			}
		}
	}
	return nil
}

// breakLease takes a lease and asks for it to become what the image says. Of
// one that is to be given up nobody can see any more what it was: only a file
// that is read can have one that lets others read.
func breakLease(d *fd.FD, become, access uint32) error {
	was, by := unix.F_WRLCK, unix.O_RDONLY
	if become == unix.F_UNLCK {
		by = unix.O_WRONLY
		if access == unix.O_RDONLY {
			was = unix.F_RDLCK
		}
	}
	if _, err := unix.FcntlInt(uintptr(d.Int()), unix.F_SETLEASE, was); err != nil {
		return notTakenHere(d, &lockimg.FileLockEntry{Flag: proto.Uint32(lockLease), Type: proto.Uint32(uint32(was))}, err)
	}
	if err := linux.FcntlSetOwnerEx(d.Int(), noneTold); err != nil {
		return fmt.Errorf("take its owner off: %w", err)
	}
	n, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", d.Int()), by|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return errors.Join(errors.New("the file system let it be opened, in spite of the lease"), unix.Close(n))
	case !errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("open it, for the lease to be given up: %w", err)
	}
	return nil
}
