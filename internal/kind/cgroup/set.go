package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	cgimg "glis.dev/glis/image/criu/cgroup"
	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/options"
)

// begin gives a new cgroup what it can have only as long as it is empty.
func (m *Maker) begin(t *mount, d *wantDir, open *cgroupfs.Dir) error {
	if err := m.setPerms(open, "", d.entry.GetDirPerms()); err != nil {
		return err
	}
	if err := inheritCPUs(t, d.path, open); err != nil {
		return err
	}
	for _, p := range d.entry.GetProperties() {
		if slices.Contains(special, p.GetName()) {
			if err := m.set(open, p, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// Settle sets all other properties, when the tree is in its cgroups and is
// complete: a limit does not stand in the way of making it.
func (m *Maker) Settle() error {
	return m.eachProp(func(p string) bool { return !slices.Contains(freezing, p) })
}

// Freeze sets the properties that stop the tree, when it is let go.
func (m *Maker) Freeze() error {
	return m.eachProp(func(p string) bool { return slices.Contains(freezing, p) })
}

func (m *Maker) eachProp(which func(string) bool) error {
	if m == nil {
		return nil
	}
	for _, t := range m.mounts {
		for _, d := range t.dirs {
			if d.path == "/" || !d.created && m.mode != options.CgroupFull && m.mode != options.CgroupProps {
				continue
			}
			if err := m.props(t, d, which); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Maker) props(t *mount, d *wantDir, which func(string) bool) error {
	open, err := t.tree.Dir(d.path)
	if err != nil {
		return err
	}
	defer open.Close()
	for _, p := range d.entry.GetProperties() {
		if which(p.GetName()) && !(d.created && slices.Contains(special, p.GetName())) {
			if err := m.set(open, p, d.created); err != nil {
				return err
			}
		}
	}
	return nil
}

// set sets one property, and who may set it.
func (m *Maker) set(d *cgroupfs.Dir, p *cgimg.CgroupPropEntry, created bool) error {
	name := p.GetName()
	if slices.Contains(lists, name) {
		return m.setPerms(d, name, p.GetPerms())
	}
	if name == "devices.list" {
		return m.setDevices(d, p.GetValue(), created)
	}
	now, err := d.Read(name)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: this kernel or its parent does not have that property; --manage-cgroups=none leaves properties alone", err)
	}
	if err != nil && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if want := p.GetValue(); asWritten(name, now) != want {
		if err := m.change(d, name, now, want, created); err != nil {
			return err
		}
	}
	if slices.Contains(freezing, name) {
		return nil // criu says nothing sensible there
	}
	return m.setPerms(d, name, p.GetPerms())
}

// change writes a property. What was there comes back if the restore fails.
func (m *Maker) change(d *cgroupfs.Dir, name, now, want string, created bool) error {
	if !created && !slices.Contains(freezing, name) {
		m.takeBack(d, name, now, want)
	}
	switch name {
	case "cgroup.subtree_control":
		return writeNonEmpty(d, name, control(now, want))
	case "cgroup.type":
		if want != threaded {
			return nil // what it is follows from others
		}
	case "net_prio.ifpriomap":
		return m.setPriorities(d, now, want)
	case "memory.kmem.limit_in_bytes":
		if err := d.Write(name, want); !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		return nil // newer kernels have no such limit
	case "io.max", "io.latency", "io.weight", "io.bfq.weight", "rdma.max", "misc.max":
		return eachLine(want, func(line string) error { return d.Write(name, line) })
	}
	return d.Write(name, want)
}

// takeBack has a property get what it had, if the restore fails.
func (m *Maker) takeBack(d *cgroupfs.Dir, name, was, is string) {
	m.undo("a property of a cgroup", func() error {
		again, err := d.Again()
		if err != nil {
			return err
		}
		defer again.Close()
		if name == "devices.list" {
			return m.setDevices(again, was, true)
		}
		return m.change(again, name, is, was, true)
	})
}

// control is what turns the controllers of a cgroup's children from one list
// into another.
func control(now, want string) string {
	var out []string
	have, wanted := strings.Fields(now), strings.Fields(want)
	for _, c := range have {
		if !slices.Contains(wanted, c) {
			out = append(out, "-"+c)
		}
	}
	for _, c := range wanted {
		if !slices.Contains(have, c) {
			out = append(out, "+"+c)
		}
	}
	return strings.Join(out, " ")
}

func writeNonEmpty(d *cgroupfs.Dir, name, value string) error {
	if value == "" {
		return nil
	}
	return d.Write(name, value)
}

func eachLine(value string, f func(string) error) error {
	for line := range strings.SplitSeq(value, "\n") {
		if line == "" {
			continue
		}
		if err := f(line); err != nil {
			return err
		}
	}
	return nil
}

// setDevices allows the devices of a list, and none else. The kernel takes one
// at a time.
func (m *Maker) setDevices(d *cgroupfs.Dir, want string, created bool) error {
	now, err := d.Read("devices.list")
	if err != nil || now == want {
		return err
	}
	if !created {
		m.takeBack(d, "devices.list", now, want)
	}
	if err := d.Write("devices.deny", "a"); err != nil {
		return err
	}
	return eachLine(want, func(line string) error { return d.Write("devices.allow", line) })
}

// setPriorities sets what network interfaces give to packets. An interface that
// this host lacks has none.
func (m *Maker) setPriorities(d *cgroupfs.Dir, now, want string) error {
	have := strings.Split(now, "\n")
	return eachLine(want, func(line string) error {
		if slices.Contains(have, line) {
			return nil
		}
		err := d.Write("net_prio.ifpriomap", line)
		if errors.Is(err, unix.ENODEV) {
			m.warn("There is no such network interface to have a priority", "cgroup", d, "interface and priority", line)
			return nil
		}
		return err
	})
}

// delegate turns on, in a cgroup of version 2 that the images don't tell of, the
// controllers that what is made in it has properties of.
func (m *Maker) delegate(t *mount, path string, above *cgroupfs.Dir) error {
	if t.name != "" || slices.ContainsFunc(t.dirs, func(d *wantDir) bool { return d.path == filepath.Dir(path) && d.path != "/" }) {
		return nil
	}
	there, err := above.Read("cgroup.controllers")
	if err != nil {
		return err
	}
	now, err := above.Read("cgroup.subtree_control")
	if err != nil {
		return err
	}
	want := strings.Fields(now)
	for _, c := range strings.Fields(there) {
		if !slices.Contains(want, c) && t.needs(path, c) {
			want = append(want, c)
		}
	}
	return writeNonEmpty(above, "cgroup.subtree_control", control(now, strings.Join(want, " ")))
}

// needs tells whether a cgroup, or one in it, has properties of a controller.
func (t *mount) needs(path, controller string) bool {
	return slices.ContainsFunc(t.dirs, func(d *wantDir) bool {
		return within(d.path, path) && slices.ContainsFunc(d.entry.GetProperties(), func(p *cgimg.CgroupPropEntry) bool {
			return strings.HasPrefix(p.GetName(), controller+".")
		})
	})
}

// setPerms sets who may use a file of a cgroup, or the cgroup itself for "".
func (m *Maker) setPerms(d *cgroupfs.Dir, name string, p *cgimg.CgroupPerms) error {
	if p == nil {
		return nil
	}
	was, err := d.Perms(name)
	if err != nil {
		return err
	}
	if err := d.SetPerms(name, cgroupfs.Perms{Mode: p.GetMode(), UID: p.GetUid(), GID: p.GetGid()}); err != nil {
		return err
	}
	m.undo("who may use a cgroup", func() error {
		again, err := d.Again()
		if err != nil {
			return err
		}
		defer again.Close()
		return again.SetPerms(name, was)
	})
	return nil
}
