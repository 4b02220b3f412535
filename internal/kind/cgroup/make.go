package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/options"
)

// Hooks are what a Maker tells others.
type Hooks struct {
	Undo func(what string, f func() error)
	// Made is told of a cgroup that is about to be made, for who has to remove
	// it if the engine is killed.
	Made func(hierarchy, path string) error
	Warn func(msg string, args ...any)
}

// Make makes the cgroups that are missing. No task is in them yet.
func (m *Maker) Make(h Hooks) error {
	if m == nil {
		return nil
	}
	m.undo, m.warn = h.Undo, h.Warn
	if err := m.lookInside(); err != nil {
		return err
	}
	for _, t := range m.mounts {
		if err := m.prepare(t, h); err != nil {
			return err
		}
	}
	return nil
}

// lookInside finds out where the engine itself is.
func (m *Maker) lookInside() error {
	self, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return err
	}
	defer self.Close()
	all, err := self.Cgroups()
	for _, c := range all {
		m.inside[c.Controllers] = c.Path
	}
	return err
}

// Close closes the hierarchies. It does nothing for nil.
func (m *Maker) Close() error {
	if m == nil {
		return nil
	}
	var errs []error
	for _, t := range m.mounts {
		if t.tree != nil {
			errs = append(errs, t.tree.Close())
		}
	}
	return errors.Join(errs...)
}

// prepare makes the cgroups of one hierarchy, upper ones first.
func (m *Maker) prepare(t *mount, h Hooks) error {
	var err error
	if t.tree, err = open(m.yard, t.name); err != nil {
		return err
	}
	slices.SortStableFunc(t.dirs, func(a, b *wantDir) int { return len(a.path) - len(b.path) })
	for _, d := range t.dirs {
		if err := m.one(t, d, h); err != nil {
			return err
		}
	}
	return nil
}

// one makes a cgroup if it is missing and may be made.
func (m *Maker) one(t *mount, d *wantDir, h Hooks) error {
	open, err := t.tree.Dir(d.path)
	if err == nil {
		defer open.Close()
		return m.existing(t, d, open)
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if m.mode == options.CgroupNone || m.mode == options.CgroupProps {
		return fmt.Errorf("cgroup %s of %s does not exist: make it, or give --manage-cgroups=soft", d.path, cgroupfs.Called(t.name))
	}
	if open, err = m.create(t, d.path, h); err != nil {
		return err
	}
	defer open.Close()
	d.created = true
	return m.begin(t, d, open)
}

// existing is what is done to a cgroup that is there.
func (m *Maker) existing(t *mount, d *wantDir, open *cgroupfs.Dir) error {
	switch {
	case m.mode == options.CgroupStrict && d.path != "/" && !within(m.inside[t.name], d.path):
		return fmt.Errorf("%v exists: remove it, or give another mode than --manage-cgroups=strict", open)
	case m.mode == options.CgroupFull || m.mode == options.CgroupProps:
		return m.setPerms(open, "", d.entry.GetDirPerms())
	}
	return nil
}

// create makes a cgroup and those it is in, and opens it.
func (m *Maker) create(t *mount, path string, h Hooks) (*cgroupfs.Dir, error) {
	if path != "/" {
		above, err := t.tree.Dir(filepath.Dir(path))
		if errors.Is(err, unix.ENOENT) {
			if above, err = m.create(t, filepath.Dir(path), h); err == nil {
				err = inheritCPUs(t, filepath.Dir(path), above)
			}
		}
		if err != nil {
			return nil, err
		}
		defer above.Close()
		if err := m.delegate(t, path, above); err != nil {
			return nil, err
		}
	}
	if err := h.Made(t.name, path); err != nil {
		return nil, err
	}
	if err := t.tree.Make(path); err != nil {
		return nil, err
	}
	m.undo("a cgroup", func() error { return t.tree.Remove(path) })
	return t.tree.Dir(path)
}

// inheritCPUs gives a cgroup of version 1 that the images don't tell of the
// processors and memory of the one that it is in: new ones have none, and then
// nothing in them can have any.
func inheritCPUs(t *mount, path string, d *cgroupfs.Dir) error {
	if path == "/" || t.name == "" {
		return nil
	}
	above, err := t.tree.Dir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer above.Close()
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := above.Read(name)
		if errors.Is(err, unix.ENOENT) {
			return nil // it is another controller's
		}
		if err == nil {
			err = d.Write(name, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Enter moves a process of the tree, of number pid in the engine's PID
// namespace, from one set of cgroups into another.
func (m *Maker) Enter(pid int, from, to uint32) error {
	return m.move(pid, from, to, "cgroup.procs")
}

// EnterThread moves one thread only.
func (m *Maker) EnterThread(tid int, from, to uint32) error {
	return m.move(tid, from, to, "")
}

// move writes a number where it changes something. Without the name of a file
// it is that of threads.
func (m *Maker) move(id int, from, to uint32, file string) error {
	if m == nil || to == 0 || to == from {
		return nil
	}
	before := m.sets[from]
	for _, to := range m.sets[to] {
		if slices.Contains(before, to) {
			continue
		}
		if err := m.moveInto(id, to, file); err != nil {
			return err
		}
	}
	return nil
}

func (m *Maker) moveInto(id int, to member, file string) error {
	d, err := to.in.tree.Dir(to.path)
	if errors.Is(err, unix.ENOENT) && !to.in.known[to.path] {
		return fmt.Errorf("%w; it was dumped without --manage-cgroups, so the checkpoint does not say what it was like: make it first", err)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if file == "" {
		if file = "tasks"; to.in.name == "" {
			file = "cgroup.threads"
		}
	}
	return d.Write(file, strconv.Itoa(id))
}
