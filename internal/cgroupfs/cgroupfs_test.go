package cgroupfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A hierarchy of its own, without controllers: what can be done in one.
func TestHierarchy(t *testing.T) {
	h, err := Open("name=glistest-unit")
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs root")
	}
	must(t, err)
	defer h.Close()
	must(t, h.Make("/a"))
	defer h.Remove("/a")
	must(t, h.Make("/a/b"))
	d, err := h.Dir("/a")
	must(t, err)
	defer d.Close()
	names, err := d.Children()
	if err != nil || !slices.Equal(names, []string{"b"}) {
		t.Errorf("children: %q, %v", names, err)
	}
	must(t, d.Write("notify_on_release", "1"))
	if s, err := d.Read("notify_on_release"); s != "1" || err != nil {
		t.Errorf("a property: %q, %v", s, err)
	}
	for _, name := range []string{"", "tasks"} {
		want := Perms{0o600, 7, 8}
		must(t, d.SetPerms(name, want))
		if p, err := d.Perms(name); err != nil || p.UID != 7 || p.GID != 8 || p.Mode&0o777 != 0o600 {
			t.Errorf("who may use %q: %v, %v", name, p, err)
		}
	}
	for _, name := range []string{"../tasks", "b/tasks", "nothing", ""} {
		if _, err := d.Read(name); err == nil {
			t.Errorf("%q can be read", name)
		}
	}
	must(t, h.Remove("/a/b"))
	must(t, h.Remove("/a/b")) // it is gone
	if _, err := h.Dir("/a/b"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a removed cgroup: %v", err)
	}
}

// No path leads out of the hierarchy, whatever links there are.
func TestBeneath(t *testing.T) {
	yard := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(yard, "cpu,cpuacct", "in"), 0o755))
	must(t, os.Symlink("/", filepath.Join(yard, "cpu,cpuacct", "out")))
	h, err := OpenIn(yard, "cpu,cpuacct")
	must(t, err)
	defer h.Close()
	d, err := h.Dir("/in")
	must(t, err)
	d.Close()
	for _, path := range []string{"/out", "/out/etc", "/../.."} {
		if d, err := h.Dir(path); err == nil && path != "/../.." {
			t.Errorf("%s leads out", path)
			d.Close()
		}
	}
	for _, path := range []string{"/..", "a/../../b", "/a/./b", string(make([]byte, 5000)), "a\x00"} {
		if p, err := Checked(path); err == nil {
			t.Errorf("%q is taken: %q", path, p)
		}
	}
	for path, want := range map[string]string{"": "/", "a/b": "/a/b", "/a//b/": "/a/b"} {
		if p, err := Checked(path); p != want || err != nil {
			t.Errorf("%q: %q, %v", path, p, err)
		}
	}
}

// A hierarchy comes into being anew right after it has gone, however often.
func TestOpenAnew(t *testing.T) {
	for i := range 10 {
		h, err := Open("name=glisanew")
		if errors.Is(err, unix.EPERM) {
			t.Skip("needs root")
		}
		if err != nil {
			t.Fatalf("for the %dth time: %v", i+1, err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
