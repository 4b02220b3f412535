package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// cgroup2Properties are of cgroups of version 2; the first word of a name is its
// controller.
var cgroup2Properties = map[string]string{
	"cgroup.max.descendants": "9", "cgroup.max.depth": "3",
	"cpu.weight": "77", "cpu.max": "50000 200000", "cpuset.cpus": "0", "memory.max": "1073741824", "memory.high": "805306368", "memory.low": "4096",
	"pids.max": "88", "hugetlb.2MB.max": "4194304",
}

// TestCgroup2: a tree comes back to a cgroup of version 2 with what its controllers
// limit, also where nobody has turned those on for cgroups below the root yet.
func TestCgroup2(t *testing.T) {
	e := glisOnly(t)
	testkit.RequireRoot(t)
	root := t.TempDir()
	if err := unix.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Skip("no cgroups of version 2: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	control := filepath.Join(root, "cgroup.subtree_control")
	before := delegateAll(t, root)
	top := filepath.Join(root, filepath.Base(testkit.NewDir(t)))
	in := filepath.Join(top, "in")
	remove := func() {
		for _, d := range []string{in, top} {
			if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
		for _, c := range strings.Fields(readText(t, control)) {
			if !slices.Contains(before, c) {
				mustDo(t, os.WriteFile(control, []byte("-"+c), 0))
			}
		}
	}
	t.Cleanup(remove)
	mustDo(t, os.MkdirAll(in, 0o755))
	mustDo(t, os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte(plus(readText(t, filepath.Join(top, "cgroup.controllers")))), 0))
	for name, value := range cgroup2Properties {
		if exists(in, name) {
			mustDo(t, os.WriteFile(filepath.Join(in, name), []byte(value), 0))
		}
	}
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, testkit.BuildC(t, "targets/threads.c"), "3", dir)
	p.AwaitAt(t, 0)
	mustDo(t, os.WriteFile(filepath.Join(in, "cgroup.procs"), []byte(strconv.Itoa(p.PID)), 0))
	want := cgroup2Now(t, in)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--manage-cgroups")
	remove()
	e.Restore(t, img, "--manage-cgroups")
	if got := cgroup2Now(t, in); got != want {
		t.Errorf("after the restore:\n%s\nbefore:\n%s", got, want)
	}
	if got := strings.Fields(readText(t, filepath.Join(in, "cgroup.procs"))); !slices.Equal(got, []string{strconv.Itoa(p.PID)}) {
		t.Errorf("in the cgroup are %v", got)
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}

// delegateAll turns all controllers on for cgroups below the root, and returns which
// were.
func delegateAll(t *testing.T, root string) []string {
	t.Helper()
	before := strings.Fields(readText(t, filepath.Join(root, "cgroup.subtree_control")))
	if all := plus(readText(t, filepath.Join(root, "cgroup.controllers"))); all != "" {
		mustDo(t, os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte(all), 0))
	}
	return before
}

func plus(controllers string) string {
	var out []string
	for _, c := range strings.Fields(controllers) {
		out = append(out, "+"+c)
	}
	return strings.Join(out, " ")
}

// cgroup2Now is what those properties are set to.
func cgroup2Now(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	for name := range cgroup2Properties {
		if exists(dir, name) {
			out = append(out, fmt.Sprint(name, " ", readText(t, filepath.Join(dir, name))))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	mustDo(t, err)
	return string(b)
}
