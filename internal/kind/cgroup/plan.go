package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	cgimg "glis.dev/glis/image/criu/cgroup"
	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/options"
)

// Limits on what an image may ask for.
const (
	mostSets  = 1 << 16
	mostDirs  = 1 << 16
	mostProps = 256
)

// Maker brings a tree back into its cgroups.
type Maker struct {
	mode   options.CgroupMode
	yard   string
	own    uint32 // the set that means: where the engine is
	sets   map[uint32][]member
	mounts []*mount
	dirs   int
	inside map[string]string // where the engine is in each hierarchy
	warn   func(msg string, args ...any)
	undo   func(what string, f func() error)
}

// member is a place in one hierarchy.
type member struct {
	in   *mount
	path string
}

// mount is a hierarchy with the cgroups in it that are to be there.
type mount struct {
	name  string
	dirs  []*wantDir
	tree  *cgroupfs.Hierarchy
	known map[string]bool // that are there or will be
}

// wantDir is a cgroup as the images have it.
type wantDir struct {
	path    string
	entry   *cgimg.CgroupDirEntry
	created bool
}

// NewMaker reads what cgroup.img says; own is the inventory's number of the set
// in which the engine was. It returns nil if nothing is to be done.
func NewMaker(e *cgimg.CgroupEntry, own uint32, o *options.Restore) (*Maker, error) {
	if o.Cgroups == options.CgroupIgnore || e == nil || len(e.GetSets()) == 0 {
		return nil, nil
	}
	m := &Maker{mode: o.Cgroups, yard: o.CgroupYard, own: own, sets: map[uint32][]member{}, inside: map[string]string{}}
	for _, c := range e.GetControllers() {
		if err := m.addMount(c, o.CgroupRoots, e.GetSets()); err != nil {
			return nil, fmt.Errorf("cgroup.img: %w", err)
		}
	}
	if len(e.GetSets()) > mostSets {
		return nil, errors.New("cgroup.img: too many sets")
	}
	for _, s := range e.GetSets() {
		if err := m.addSet(s); err != nil {
			return nil, fmt.Errorf("cgroup.img: set %d: %w", s.GetId(), err)
		}
	}
	return m, nil
}

// nameOf joins the names of the controllers of a hierarchy.
func nameOf(names []string) (string, error) {
	if len(names) == 0 || len(names) > 64 {
		return "", errors.New("a hierarchy without a name")
	}
	name := strings.Join(names, ",")
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '/' || c == '\\' {
			return "", fmt.Errorf("hierarchy %q: no such name can be", name)
		}
	}
	return name, nil
}

func (m *Maker) addMount(c *cgimg.CgControllerEntry, roots []options.CgroupRoot, sets []*cgimg.CgSetEntry) error {
	name, err := nameOf(c.GetCnames())
	if err != nil {
		return err
	}
	if m.mount(name) != nil {
		return fmt.Errorf("hierarchy %s is there twice", cgroupfs.Called(name))
	}
	mt := &mount{name: name, known: map[string]bool{"/": true}}
	m.mounts = append(m.mounts, mt)
	to, moved := rootFor(roots, name)
	for _, d := range c.GetDirs() {
		path, err := cgroupfs.Checked(d.GetDirName())
		if err != nil {
			return err
		}
		if moved {
			rename(sets, name, path, to)
			path = filepath.Join("/", to)
		}
		if err := m.addDir(mt, path, d, 0); err != nil {
			return fmt.Errorf("hierarchy %s: %w", cgroupfs.Called(name), err)
		}
	}
	return nil
}

// rename has those that are in or below a cgroup be in or below another.
func rename(sets []*cgimg.CgSetEntry, hierarchy, from, to string) {
	for _, s := range sets {
		for _, c := range s.GetCtls() {
			path := filepath.Join("/", c.GetPath())
			if c.GetName() == hierarchy && within(path, from) {
				path = filepath.Join("/", to, strings.TrimPrefix(path, from))
				c.Path = &path
			}
		}
	}
}

func (m *Maker) mount(name string) *mount {
	i := slices.IndexFunc(m.mounts, func(t *mount) bool { return t.name == name })
	if i < 0 {
		return nil
	}
	return m.mounts[i]
}

func (m *Maker) addDir(t *mount, path string, e *cgimg.CgroupDirEntry, depth int) error {
	if m.dirs++; m.dirs > mostDirs || depth > mostDepth || len(e.GetProperties()) > mostProps {
		return errors.New("too many cgroups or properties")
	}
	for _, p := range e.GetProperties() {
		if n := p.GetName(); n == "" || strings.ContainsAny(n, "/\x00") || n == "." || n == ".." {
			return fmt.Errorf("cgroup %s: %q is no name of a property", path, n)
		}
	}
	t.dirs = append(t.dirs, &wantDir{path: path, entry: e})
	for p := path; p != "/"; p = filepath.Dir(p) {
		t.known[p] = true
	}
	for _, c := range e.GetChildren() {
		below, err := cgroupfs.Checked(c.GetDirName())
		if err != nil {
			return err
		}
		if err := m.addDir(t, filepath.Join(path, below), c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (m *Maker) addSet(s *cgimg.CgSetEntry) error {
	if m.sets[s.GetId()] != nil {
		return errors.New("it is there twice")
	}
	set := []member{}
	for _, c := range s.GetCtls() {
		if c.GetCgnsPrefix() > 0 {
			return errors.New("its tasks have a cgroup namespace of their own, which Glis can't make yet; criu can, or give --manage-cgroups=ignore")
		}
		t := m.mount(c.GetName())
		if t == nil {
			return fmt.Errorf("hierarchy %s is missing", cgroupfs.Called(c.GetName()))
		}
		path, err := cgroupfs.Checked(c.GetPath())
		if err != nil {
			return err
		}
		set = append(set, member{t, path})
	}
	m.sets[s.GetId()] = set
	return nil
}

// Check tells whether there is such a set.
func (m *Maker) Check(set uint32) error {
	if m == nil || set == 0 || set == m.own || m.sets[set] != nil {
		return nil
	}
	return fmt.Errorf("cgroup.img: set %d of cgroups is missing", set)
}

// Own is the set of who is where the engine is.
func (m *Maker) Own() uint32 {
	if m == nil {
		return 0
	}
	return m.own
}
