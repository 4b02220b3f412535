package file

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	lockimg "glis.dev/glis/image/criu/file-lock"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

func TestLocks(t *testing.T) {
	name := tempFile(t, "x")
	n := open(t, name, unix.O_RDWR)
	if err := unix.Flock(n, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{5, 100} {
		if err := unix.FcntlFlock(uintptr(n), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 10 * (at % 2)}); err != nil {
			t.Fatal(err)
		}
	}
	g := self(t)
	f := g.add(n)
	f.Info().Locks = append(f.Info().Locks, f.Info().Locks...) // as another descriptor shows them
	err := (&Locks{}).DumpFile(g.env, f)
	mustFail(t, err, "--file-locks", name, "descriptor")
	if !errors.Is(err, kind.ErrUnsupported) {
		t.Error("it is no ErrUnsupported")
	}
	g.env.Options.FileLocks = true
	if err := (&Locks{}).DumpFile(g.env, f); err != nil {
		t.Fatal(err)
	}
	all, _ := g.im.Entries(image.FileLocks)
	if len(all) != 3 {
		t.Fatalf("%d locks: %v", len(all), all)
	}
	for _, e := range all {
		m := e.Message.(*lockimg.FileLockEntry)
		if err := checkLock(m); err != nil {
			t.Error(err)
		}
		if m.GetFlag() == lockPosix && (m.GetType() != unix.F_RDLCK || m.GetStart() == 5 && m.GetLen() != 10 || m.GetStart() == 100 && m.GetLen() != 0) {
			t.Error(m)
		}
	}
	f.Info().Locks[0].Kind, f.Info().Locks[0].Mode = "LEASE", "BREAKING"
	if err := (&Locks{}).DumpFile(g.env, f); err == nil {
		t.Error("a lease for writing can't be what one is asked to become")
	}
	f.Info().Locks[0].Kind, f.Info().Locks[0].PID = "POSIX", 1<<22+1
	mustFail(t, (&Locks{}).DumpFile(g.env, f), "not in the tree")
}

// The locks of a file that is only in a message are its own: who makes it takes them again. No
// descriptor is told of by a lease's signal.
func TestLocksQueued(t *testing.T) {
	g := self(t)
	g.env.Options.FileLocks = true
	name := tempFile(t, "x")
	n := open(t, name, unix.O_RDONLY)
	f := g.add(n)
	f.ID, f.Within, f.Users = 7, &scan.File{}, nil
	end := int64(proc.LockEOF)
	f.Told.Locks = []proc.Lock{
		{Kind: "FLOCK", Mode: "ADVISORY", Access: "WRITE", End: end}, {Kind: "OFDLCK", Mode: "ADVISORY", Access: "READ", PID: -1, Start: 3, End: 9}, {Kind: "LEASE", Mode: "ACTIVE", Access: "READ", End: end},
	}
	if err := (&Locks{}).DumpFile(g.env, f); err != nil {
		t.Fatal(err)
	}
	all, _ := g.im.Entries(image.FileLocks)
	k := &Locks{}
	for _, e := range all {
		if err := k.plan(e.Message.(*lockimg.FileLockEntry)); err != nil {
			t.Error(err)
		}
	}
	if len(k.queued[7]) != 3 {
		t.Fatalf("%d locks of %v", len(k.queued[7]), k.queued)
	}
	mustFail(t, k.Complete(plan.New(g.im, nil)), "isn't there")
	readable := open(t, name, unix.O_RDONLY)
	if err := unix.Close(n); err != nil {
		t.Fatal(err)
	}
	own, err := fd.New(readable), error(nil)
	if err = k.TakeQueued(7, own); err != nil {
		t.Fatal(err)
	}
	if d, err := proc.Open(proc.PID(unix.Getpid())); err != nil {
		t.Error(err)
	} else if info, err := d.FDInfo(int32(readable)); err != nil || len(info.Locks) != 3 {
		t.Errorf("%d locks were taken: %v, %v", len(info.Locks), info.Locks, err)
	}
	if o, err := linux.FcntlGetOwnerEx(readable); err != nil || o.PID != 0 {
		t.Errorf("it has an owner now: %v, %v", o, err)
	}
	other := fd.New(open(t, name, unix.O_RDONLY))
	mustFail(t, k.TakeQueued(7, other), "again")

	f.Told.Locks = f.Told.Locks[2:]
	f.Hangs = &scan.Hanging{Owner: &sockmem.Owner{Signal: uint32(unix.SIGUSR1)}}
	f.FD = int32(readable)
	mustFail(t, (&Locks{}).DumpFile(g.env, f), "names a descriptor")
	f.Told.Locks[0].Mode, f.Told.Locks[0].Access = "BREAKING", "READ"
	mustFail(t, (&Locks{}).DumpFile(g.env, f), "somebody waits for its lease")
}

func TestHostileLocks(t *testing.T) {
	queued := func(flag, typ uint32, pid int32) {
		e := &lockimg.FileLockEntry{Flag: &flag, Type: &typ, Pid: &pid, Fd: proto.Int32(0), Start: proto.Int64(0), Len: proto.Int64(0)}
		putVarint(e, lockFile, 7)
		mustFail(t, checkLock(e), "only in a message")
	}
	queued(lockFlock, unix.F_RDLCK, 1)
	queued(lockPosix, unix.F_RDLCK, 0)
	queued(lockLease, unix.F_RDLCK|leaseBreaking, 0)
	for _, c := range []struct {
		want       string
		flag, typ  uint32
		pid, fd    int32
		start, len int64
	}{
		{"it can't be", lockFlock, 1, 0, 1, 0, 0},
		{"it can't be", lockFlock, 1, 1, -1, 0, 0},
		{"it can't be", lockPosix, 1, 1, 1, -1, 0},
		{"it can't be", lockPosix, 1, 1, 1, 0, -1},
		{"neither for reading", lockPosix, unix.F_UNLCK, 1, 1, 0, 0},
		{"to become that", lockLease, leaseBreaking | unix.F_WRLCK, 1, 1, 0, 0},
		{"no such sort", 3, 1, 1, 1, 0, 0},
	} {
		mustFail(t, checkLock(&lockimg.FileLockEntry{Flag: &c.flag, Type: &c.typ, Pid: &c.pid, Fd: &c.fd, Start: proto.Int64(c.start), Len: proto.Int64(c.len)}), c.want)
	}
}
