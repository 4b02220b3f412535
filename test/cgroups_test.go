package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/internal/testkit"
)

// cgroupCase is a hierarchy with a property that can be set in it.
type cgroupCase struct {
	hierarchy, property, value string
}

// cgroupCases are those of them that this machine has.
func cgroupCases(t *testing.T) []cgroupCase {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	out := []cgroupCase{{"name=glistest", "notify_on_release", "1"}}
	for _, c := range []cgroupCase{
		{"pids", "pids.max", "77"},
		{"cpu", "cpu.shares", "99"},
		{"cpuset", "cpuset.cpus", "0"},
		{"freezer", "notify_on_release", "1"},
		{"devices", "devices.list", "c 1:3 rw"},
		{"memory", "memory.limit_in_bytes", "536870912"},
		{"", "cgroup.max.depth", "7"},
	} {
		if strings.Contains(string(b), ":"+c.hierarchy+":") {
			out = append(out, c)
		}
	}
	return out
}

// cgroupsOf are cgroups of one test in all hierarchies: two that threads are in,
// one that nobody is in.
type cgroupsOf struct {
	t     *testing.T
	top   string
	cases []cgroupCase
	open  []*cgroupfs.Hierarchy
}

func newCgroups(t *testing.T, cases []cgroupCase) *cgroupsOf {
	t.Helper()
	testkit.RequireRoot(t)
	c := &cgroupsOf{t: t, top: "/" + filepath.Base(testkit.NewDir(t)), cases: cases}
	for _, x := range c.cases {
		h, err := cgroupfs.Open(x.hierarchy)
		if err != nil {
			t.Fatal(err)
		}
		c.open = append(c.open, h)
	}
	t.Cleanup(func() {
		c.remove()
		for _, h := range c.open {
			h.Close()
		}
	})
	return c
}

// write writes a file of a cgroup below the top.
func (c *cgroupsOf) write(i int, dir, name, value string) {
	c.t.Helper()
	d, err := c.open[i].Dir(c.top + dir)
	if err == nil {
		err = errors.Join(d.Write(name, value), d.Close())
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cgroupsOf) read(i int, dir, name string) string {
	c.t.Helper()
	d, err := c.open[i].Dir(c.top + dir)
	if err != nil {
		c.t.Fatal(err)
	}
	defer d.Close()
	s, err := d.Read(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// make makes them and sets a property of each.
func (c *cgroupsOf) make() {
	c.t.Helper()
	for i, x := range c.cases {
		for _, dir := range []string{"", "/in", "/other", "/in/empty"} {
			if err := c.open[i].Make(c.top + dir); err != nil {
				c.t.Fatal(err)
			}
			switch {
			case x.hierarchy == "cpuset":
				c.write(i, dir, "cpuset.cpus", "0")
				c.write(i, dir, "cpuset.mems", "0")
			case x.hierarchy == "" && dir != "" && dir != "/in/empty":
				c.write(i, dir, "cgroup.type", "threaded")
			}
			if dir == "/in" || dir == "/other" {
				c.set(i, dir)
			}
		}
	}
}

// set sets the property of a cgroup that has nobody in it yet.
func (c *cgroupsOf) set(i int, dir string) {
	c.t.Helper()
	x := c.cases[i]
	if x.property != "devices.list" {
		c.write(i, dir, x.property, x.value)
		return
	}
	c.write(i, dir, "devices.deny", "a")
	c.write(i, dir, "devices.allow", x.value)
	c.write(i, dir, "devices.allow", "c 136:* rw")
}

// remove removes all that is there of them.
func (c *cgroupsOf) remove() {
	c.t.Helper()
	for _, h := range c.open {
		for _, dir := range []string{"/in/empty", "/in", "/other", ""} {
			if err := h.Remove(c.top + dir); err != nil {
				c.t.Error(err)
			}
		}
	}
}

// look is all that a restore has to bring back.
func (c *cgroupsOf) look(pid int) []string {
	c.t.Helper()
	var out []string
	for _, tid := range tidsOf(c.t, pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/cgroup", pid, tid))
		if err != nil {
			c.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) { // of other tests' hierarchies nothing
			_, place, _ := strings.Cut(line, ":")
			if strings.Contains(place, c.top) {
				out = append(out, place)
			}
		}
	}
	for i, x := range c.cases {
		for _, dir := range []string{"/in", "/other"} {
			out = append(out, x.hierarchy+dir+" "+x.property+" "+c.read(i, dir, x.property))
		}
		d, err := c.open[i].Dir(c.top + "/in/empty")
		out = append(out, fmt.Sprint(x.hierarchy, " empty ", err == nil))
		if err == nil {
			d.Close()
		}
	}
	return out
}

func tidsOf(t *testing.T, pid int) []int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// enter moves a process, and its last thread elsewhere.
func (c *cgroupsOf) enter(pid int) {
	c.t.Helper()
	tids := tidsOf(c.t, pid)
	for i, x := range c.cases {
		if x.hierarchy == "" { // a process goes where its domain is
			c.write(i, "", "cgroup.procs", strconv.Itoa(pid))
			for _, tid := range tids {
				c.write(i, "/in", "cgroup.threads", strconv.Itoa(tid))
			}
		} else {
			c.write(i, "/in", "cgroup.procs", strconv.Itoa(pid))
		}
		file := "tasks"
		if x.hierarchy == "" {
			file = "cgroup.threads"
		}
		c.write(i, "/other", file, strconv.Itoa(tids[len(tids)-1]))
	}
}

// TestCgroups: a process comes back to its cgroups, thread by thread, and they
// come back if they are gone. The images are criu's.
func TestCgroups(t *testing.T) {
	glis := glisOnly(t)
	t.Run("glis", func(t *testing.T) { cgroupsReturn(t, glis, glis) })
	path, err := exec.LookPath("criu")
	if err != nil {
		return
	}
	if criu := testkit.NewEngine(t, path); !criu.Glis {
		t.Run("from criu", func(t *testing.T) { cgroupsReturn(t, criu, glis) })
		t.Run("to criu", func(t *testing.T) { cgroupsReturn(t, glis, criu) })
	}
}

// TestCgroupsHybrid does that where controllers are in hierarchies of version 1
// and the one of version 2 is beside them: each thread has a cgroup in all of
// them, and all their properties come back.
func TestCgroupsHybrid(t *testing.T) {
	glis := glisOnly(t)
	var first, second bool
	for _, c := range cgroupCases(t) {
		second = second || c.hierarchy == ""
		first = first || c.hierarchy != "" && !strings.HasPrefix(c.hierarchy, "name=")
	}
	if !first || !second {
		t.Skip("not both versions of cgroups are mounted here")
	}
	cgroupsReturn(t, glis, glis)
}

func cgroupsReturn(t *testing.T, saver, restorer testkit.Engine) {
	cases := cgroupCases(t)
	if !restorer.Glis { // criu makes cgroups between that have no processors
		cases = slices.DeleteFunc(cases, func(c cgroupCase) bool { return c.hierarchy == "cpuset" })
	}
	c := newCgroups(t, cases)
	c.make()
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, testkit.BuildC(t, "targets/threads.c"), "3", dir)
	p.AwaitAt(t, 0)
	c.enter(p.PID)
	want := c.look(p.PID)
	img := testkit.NewDir(t)
	saver.Save(t, p.PID, img, "--manage-cgroups")
	if saver.Glis && restorer.Glis {
		refused(t, restorer, []string{"restore", "-d", "-D", img, "--manage-cgroups=strict"}, "exists")
	}
	c.remove()
	if saver.Glis && restorer.Glis {
		refused(t, restorer, []string{"restore", "-d", "-D", img, "--manage-cgroups=none"}, "does not exist")
	}
	restorer.Restore(t, img, "--manage-cgroups")
	if got := c.look(p.PID); !slices.Equal(got, want) {
		t.Errorf("after the restore:\n%s\nbefore:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}

// TestCgroupModes: what a restore does to cgroups that are there, how it moves
// a tree to others, and that one that fails leaves nothing behind.
func TestCgroupModes(t *testing.T) {
	e := glisOnly(t)
	c := newCgroups(t, cgroupCases(t)[:1])
	c.make()
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, testkit.BuildC(t, "targets/hold.c"), "1", dir)
	p.AwaitAt(t, 0)
	c.enter(p.PID)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--manage-cgroups")
	if !slices.Contains(decodeAll(t, img), image.Cgroup.Name) {
		t.Error("there is no image of cgroups for crit to decode")
	}
	critDecodes(t, img, map[string]bool{})
	hidden := filepath.Join(img, "pstree.img")
	restore := func(args ...string) []string {
		return append([]string{"restore", "-d", "-D", img}, args...)
	}
	c.write(0, "/other", "notify_on_release", "0")
	refused(t, e, restore("--manage-cgroups=full", "--pidfile", hidden), "--pidfile")
	if s := c.read(0, "/other", "notify_on_release"); s != "0" {
		t.Error("a restore that failed has changed a cgroup")
	}
	moved := []string{"--manage-cgroups", "--cgroup-root", "name=glistest:" + c.top + "/in"}
	c.remove()
	refused(t, e, restore(append(moved, "--pidfile", hidden)...), "--pidfile")
	if _, err := c.open[0].Dir(c.top); err == nil {
		t.Error("a restore that failed has left a cgroup")
	}
	c.make()
	c.write(0, "/other", "notify_on_release", "0")
	for _, x := range []struct {
		args       []string
		path, prop string
	}{
		{[]string{"--manage-cgroups"}, "/other", "0"},
		{[]string{"--manage-cgroups=none"}, "/other", "0"},
		{[]string{"--manage-cgroups=full"}, "/other", "1"},
		{[]string{"--manage-cgroups=ignore"}, "", "1"},
		{moved, "/in", "1"},
	} {
		e.Restore(t, img, x.args...)
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
		if err != nil {
			t.Fatal(err)
		}
		at := c.top + x.path
		if x.path == "" {
			at = "/"
		}
		if !strings.Contains(string(b), "name=glistest:"+at+"\n") {
			t.Errorf("%q: it is not in %s:\n%s", x.args, at, b)
		}
		if s := c.read(0, "/other", "notify_on_release"); s != x.prop {
			t.Errorf("%q: the cgroup is set to %s, not %s", x.args, s, x.prop)
		}
		testkit.Unharmed(t, p.PID)
		p.Kill()
	}
}
