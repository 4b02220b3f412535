package file

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	lockimg "glis.dev/glis/image/criu/file-lock"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
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

func TestHostileLocks(t *testing.T) {
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
