package cgroup

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	cgimg "glis.dev/glis/image/criu/cgroup"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/cgroupfs"
)

// dir is a cgroup as it is saved.
type dir struct {
	path     string // in its hierarchy
	name     string // from that of what it is in
	perms    cgroupfs.Perms
	props    []*cgimg.CgroupPropEntry
	children []*dir
}

// mostDepth is how deep cgroups may be in each other.
const mostDepth = 256

// walk saves a cgroup and all that are in it. Where the engine itself is in it
// they are not the tree's: only those are saved that its tasks are in, which
// walk is called for, too.
func (s *Saver) walk(h *cgroupfs.Hierarchy, path, own string, ended func() error) error {
	above := s.dirs[h.Name]
	if above == nil {
		above = &dir{}
		s.dirs[h.Name] = above
	}
	if c := closest(above.children, path); c != nil {
		above = c
	}
	if above.path == path {
		return nil
	}
	name := strings.TrimPrefix(strings.TrimPrefix(path, above.path), "/")
	d, err := s.one(h, path, name, own, mostDepth, ended)
	if err != nil {
		return err
	}
	above.children = append(above.children, d)
	return nil
}

func (s *Saver) one(h *cgroupfs.Hierarchy, path, name, own string, depth int, ended func() error) (*dir, error) {
	if err := ended(); err != nil {
		return nil, err
	}
	open, err := h.Dir(path)
	if err != nil {
		return nil, err
	}
	defer open.Close()
	d := &dir{path: path, name: name}
	if d.perms, err = open.Perms(""); err != nil {
		return nil, err
	}
	if d.props, err = s.readProps(h.Name, open); err != nil {
		return nil, err
	}
	if within(own, path) || depth == 0 {
		return d, nil
	}
	names, err := open.Children()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		c, err := s.one(h, filepath.Join(path, n), n, own, depth-1, ended)
		if errors.Is(err, unix.ENOENT) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		d.children = append(d.children, c)
	}
	return d, nil
}

// within tells whether path is a cgroup or in it.
func within(path, of string) bool {
	return of == "/" || path == of || strings.HasPrefix(path, of+"/")
}

// closest returns the innermost saved cgroup that path is, or is in; or nil.
func closest(dirs []*dir, path string) *dir {
	for _, d := range dirs {
		if within(path, d.path) {
			if c := closest(d.children, path); c != nil {
				return c
			}
			return d
		}
	}
	return nil
}

func (s *Saver) readProps(hierarchy string, open *cgroupfs.Dir) ([]*cgimg.CgroupPropEntry, error) {
	names, err := matching(open, wanted(hierarchy, s.props))
	if err != nil {
		return nil, err
	}
	held, was := s.held.Property(open)
	if held != "" && !slices.Contains(names, held) {
		names = append(names, held)
	}
	var out []*cgimg.CgroupPropEntry
	for _, name := range names {
		perms, err := open.Perms(name)
		if err != nil {
			return nil, err
		}
		value := ""
		if !slices.Contains(lists, name) {
			value, err = open.Read(name)
			if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES) {
				continue // it can't be read, as those of realtime groups without any
			}
			if err != nil {
				return nil, err
			}
		}
		if name == held {
			value = was
		}
		value = asWritten(name, value)
		if name == "tasks" || name == "cgroup.type" && value == threaded {
			s.threaded[hierarchy] = true
		}
		out = append(out, &cgimg.CgroupPropEntry{Name: proto.String(name), Value: proto.String(value), Perms: permsEntry(perms)})
	}
	return out, nil
}

// threaded is the type of a cgroup of version 2 that threads are in one by one.
const threaded = "threaded"

// asWritten turns what the kernel shows into what it takes.
func asWritten(name, value string) string {
	switch name {
	case "memory.oom_control":
		first, _, _ := strings.Cut(value, "\n")
		return strings.TrimPrefix(first, "oom_kill_disable ")
	case "cpuset.cpus.partition":
		first, _, _ := strings.Cut(value, " ") // "root invalid (…)"
		return first
	}
	return value
}

func permsEntry(p cgroupfs.Perms) *cgimg.CgroupPerms {
	return &cgimg.CgroupPerms{Mode: proto.Uint32(p.Mode), Uid: proto.Uint32(p.UID), Gid: proto.Uint32(p.GID)}
}

func entries(dirs []*dir) []*cgimg.CgroupDirEntry {
	var out []*cgimg.CgroupDirEntry
	for _, d := range dirs {
		out = append(out, &cgimg.CgroupDirEntry{
			DirName: proto.String(d.name), DirPerms: permsEntry(d.perms), Properties: d.props, Children: entries(d.children),
		})
	}
	return out
}
