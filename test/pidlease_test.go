package test

import (
	"strconv"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// A pidfd that has a lease is refused before anything is done that breaks that: a second
// pidfd of the process would be waited for, for 45 s, and the lease be gone.
func TestPidLease(t *testing.T) {
	if testkit.Kernel(t).Less(testkit.Version{Major: 6, Minor: 9}) {
		t.Skip("pidfds are no files of their own (pidfs, Linux 6.9)")
	}
	e := glisOnly(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/pidlease.c"), ".")
	p.AwaitAt(t, 0)
	for range 2 {
		refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "-R", "--file-locks"}, "not supported", "a pidfd of it has a lease (F_SETLEASE)")
		testkit.Unharmed(t, p.PID)
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}
