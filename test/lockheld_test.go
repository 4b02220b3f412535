package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A lock that somebody has taken while the tree was away: the restore says on which file,
// who it is and what to do, and can be tried again when that is over.
func TestLockHeld(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	t.Run("locks", func(t *testing.T) {
		heldLocks(t, e, "locks", map[string]func(n int) error{
			"l.shared": func(n int) error { return unix.Flock(n, unix.LOCK_SH|unix.LOCK_NB) },
			"l.rec": func(n int) error {
				return unix.FcntlFlock(uintptr(n), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 2000, Len: 1})
			},
			"l.ofd": func(n int) error {
				return unix.FcntlFlock(uintptr(n), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
			},
			"l.lease": func(int) error { return nil }, // that it is open for writing does
		})
	})
	t.Run("leases", func(t *testing.T) {
		open := func(int) error { return nil }
		heldLocks(t, e, "leases", map[string]func(n int) error{"l.read": open, "l.kept": open})
	})
}

// heldLocks saves a target and takes its locks, by file, one at a time.
func heldLocks(t *testing.T, e testkit.Engine, target string, takes map[string]func(n int) error) {
	img := testkit.NewDir(t)
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, testkit.BuildC(t, "targets/"+target+".c"), dir)
	p.AwaitAt(t, 0)
	tree := testkit.Tree(p.PID)
	e.Save(t, p.PID, img, "--file-locks")
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf("process %d (%s)", os.Getpid(), comm[:len(comm)-1])
	for name, take := range takes {
		path := filepath.Join(p.Dir, name)
		n, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			err = take(n)
		}
		if err != nil {
			t.Fatal(name, err)
		}
		refused(t, e, []string{"restore", "-d", "-D", img, "--file-locks"}, path, me, "then restore again")
		_ = unix.Close(n)
		testkit.Reap(t, tree) // with -d nobody else waits for what there was of it
	}
	p.PID = e.Restore(t, img, "--file-locks")
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}
