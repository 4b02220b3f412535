package test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/internal/testkit"
)

// freezers are the ways to freeze a cgroup that this machine has, with what
// mounts its file system.
func freezers(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, x := range [][2]string{{"cgroup2", ""}, {"cgroup", "freezer"}} {
		dir := t.TempDir()
		if err := unix.Mount("none", dir, x[0], 0, x[1]); err != nil {
			continue
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		out[x[0]] = dir
	}
	return out
}

// TestFreezeCgroup: a tree whose cgroup is frozen is refused by name, can be
// dumped with that cgroup's name, and is frozen again afterwards; one that runs
// is found in a frozen moment.
func TestFreezeCgroup(t *testing.T) {
	e := glisOnly(t)
	testkit.RequireRoot(t)
	for name, mount := range freezers(t) {
		t.Run(name, func(t *testing.T) { freezeCgroup(t, e, filepath.Join(mount, filepath.Base(testkit.NewDir(t)))) })
	}
}

func freezeCgroup(t *testing.T, e testkit.Engine, cgroup string) {
	mustDo(t, os.Mkdir(cgroup, 0o755))
	t.Cleanup(func() {
		if err := os.Remove(cgroup); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, testkit.BuildC(t, "targets/threads.c"), "3", dir)
	p.AwaitAt(t, 0)
	enter := func() {
		mustDo(t, os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(p.PID)), 0))
	}
	enter()
	e.Save(t, p.PID, testkit.NewDir(t), "--freeze-cgroup", cgroup, "-R")
	testkit.Unharmed(t, p.PID)

	// One that is stopped can only be seized when it may move.
	mustDo(t, syscall.Kill(p.PID, syscall.SIGSTOP))
	e.Save(t, p.PID, testkit.NewDir(t), "--freeze-cgroup", cgroup, "-R")
	mustDo(t, syscall.Kill(p.PID, syscall.SIGCONT))
	testkit.Unharmed(t, p.PID)

	f, err := cgroupfs.OpenFreezer(cgroup)
	mustDo(t, err)
	defer f.Close()
	mustDo(t, f.Set(true))
	mustDo(t, f.Await(func() error { return nil }))
	refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t)}, "its cgroup is frozen", "--freeze-cgroup")
	e.Save(t, p.PID, testkit.NewDir(t), "--freeze-cgroup", cgroup, "-R")
	if again, err := cgroupfs.OpenFreezer(cgroup); err != nil || !again.Was {
		t.Errorf("the cgroup is not frozen any more (%v)", err)
	} else {
		again.Close()
	}
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--freeze-cgroup", cgroup, "--manage-cgroups")
	mustDo(t, os.Remove(cgroup))
	e.Restore(t, img, "--manage-cgroups")
	if again, err := cgroupfs.OpenFreezer(cgroup); err != nil || !again.Was {
		t.Fatalf("it was restored into a cgroup that is not frozen (%v)", err)
	} else {
		mustDo(t, errors.Join(again.Set(false), again.Close()))
	}
	testkit.Unharmed(t, p.PID)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
