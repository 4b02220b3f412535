// Package cgroup carries over which cgroups tasks are in (cgroups(7)), and
// those cgroups with what they are set to: with --manage-cgroups.
package cgroup

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"

	cgimg "glis.dev/glis/image/criu/cgroup"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/options"
)

// Place is where a thread is: a path in each hierarchy, in order of names.
type Place []proc.Cgroup

// Saver saves the cgroups of a tree.
type Saver struct {
	opts        *options.Dump
	held        *cgroupfs.Freezer
	own         Place
	props       []options.CgroupSpec // that the user names
	hierarchies []*cgroupfs.Hierarchy
	sets        []Place         // number 1 is the engine's own
	strays      bool            // some thread is elsewhere than the engine
	homely      bool            // some is where the engine is
	dirs        map[string]*dir // by hierarchy; what is in a nameless one
	threaded    map[string]bool
}

// ownSet is the number of the engine's own set of cgroups.
const ownSet = 1

// NewSaver opens the hierarchies, before the freeze. It returns nil if cgroups
// are to be ignored. held is a cgroup that the engine freezes, or nil.
func NewSaver(o *options.Dump, held *cgroupfs.Freezer) (*Saver, error) {
	if o.Cgroups == options.CgroupIgnore {
		return nil, nil
	}
	self, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return nil, err
	}
	defer self.Close()
	s := &Saver{opts: o, held: held, dirs: map[string]*dir{}, threaded: map[string]bool{}}
	cgroups, err := self.Cgroups()
	if err != nil {
		return nil, err
	}
	if s.props, err = o.AllCgroupProps(); err != nil {
		return nil, err
	}
	s.own = s.place(cgroups)
	s.sets = []Place{s.own}
	for _, c := range s.own {
		h, err := open(o.CgroupYard, c.Controllers)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.hierarchies = append(s.hierarchies, h)
	}
	return s, nil
}

func open(yard, name string) (*cgroupfs.Hierarchy, error) {
	if yard != "" {
		return cgroupfs.OpenIn(yard, name)
	}
	return cgroupfs.Open(name)
}

// Close closes the hierarchies. It does nothing for nil.
func (s *Saver) Close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, h := range s.hierarchies {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// place puts what /proc says in order, without hierarchies that the user leaves
// out.
func (s *Saver) place(all []proc.Cgroup) Place {
	p := slices.DeleteFunc(slices.Clone(all), func(c proc.Cgroup) bool {
		return len(s.opts.CgroupControllers) > 0 && !slices.Contains(s.opts.CgroupControllers, c.Controllers)
	})
	slices.SortFunc(p, func(a, b proc.Cgroup) int { return cmp.Compare(a.Controllers, b.Controllers) })
	return p
}

// like is place for the hierarchies that there were before the freeze: somebody
// may have mounted others since, or removed one, which has a root only then.
func (s *Saver) like(all []proc.Cgroup) Place {
	p := slices.Clone(s.own)
	for i := range p {
		p[i].Path = "/"
		for _, c := range all {
			if c.Controllers == p[i].Controllers {
				p[i].Path = c.Path
			}
		}
	}
	return p
}

// Look reads where the threads of a task are. With alike, all are known to be
// where the first is. ended returns why that must end before its time. It may be
// called for several tasks at the same time.
func (s *Saver) Look(t *scan.Task, alike bool, ended func() error) error {
	if s == nil {
		return nil
	}
	for i, th := range t.Threads {
		if i > 0 && alike {
			th.Cgroups = t.Threads[0].Cgroups
			continue
		}
		if err := ended(); err != nil {
			return err
		}
		all, err := t.Dir.Thread(th.TID).Cgroups()
		if err != nil {
			return err
		}
		for _, c := range all {
			if c.Deleted || strings.HasPrefix(c.Path, "/..") {
				return kind.Unsupported(t, "it is in cgroup %s of %s, which was removed or is outside of Glis's cgroup namespace; move it, or give --manage-cgroups=ignore", c.Path, cgroupfs.Called(c.Controllers))
			}
		}
		th.Cgroups = s.like(all)
	}
	return nil
}

// Number gives threads the numbers of their sets.
func (s *Saver) Number(threads []*scan.Thread) {
	if s == nil {
		return
	}
	for _, th := range threads {
		i := slices.IndexFunc(s.sets, func(p Place) bool { return slices.EqualFunc(p, th.Cgroups, same) })
		if i < 0 {
			i = len(s.sets)
			s.sets = append(s.sets, th.Cgroups)
		}
		s.strays, s.homely = s.strays || i > 0, s.homely || i == 0
		th.CgroupSet = uint32(i + ownSet)
	}
}

func same(a, b proc.Cgroup) bool { return a.Controllers == b.Controllers && a.Path == b.Path }

// Collect reads what the cgroups of the tree are set to. ended returns why that
// must end before its time.
func (s *Saver) Collect(ended func() error) error {
	if s == nil || !s.strays {
		return nil
	}
	for i, h := range s.hierarchies {
		for _, path := range s.roots(i) {
			if err := s.walk(h, path, s.own[i].Path, ended); err != nil {
				return err
			}
		}
	}
	return nil
}

// roots returns the paths in a hierarchy that cgroups are saved from on, upper
// ones first.
func (s *Saver) roots(hierarchy int) []string {
	name := s.own[hierarchy].Controllers
	if root, ok := rootFor(s.opts.CgroupRoots, name); ok {
		return []string{root}
	}
	var out []string
	for _, set := range s.sets[s.first():] {
		out = append(out, set[hierarchy].Path)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// rootFor is what --cgroup-root says about a hierarchy.
func rootFor(roots []options.CgroupRoot, hierarchy string) (string, bool) {
	global, found := "", false
	for _, r := range roots {
		if r.Controller == "" {
			global, found = r.Path, true
		}
	}
	for _, r := range roots {
		if r.Controller != "" && r.For(hierarchy) {
			return r.Path, true
		}
	}
	return global, found
}

// first is the first set that is of interest: the engine's own if some thread is
// in it, too.
func (s *Saver) first() int {
	if s.homely {
		return 0
	}
	return 1
}

// OwnSet returns the number of the engine's own set, 0 if cgroups are ignored.
func (s *Saver) OwnSet() uint32 {
	if s == nil {
		return 0
	}
	return ownSet
}

// Entry returns what cgroup.img says; nil if all tasks are where the engine is.
func (s *Saver) Entry() *cgimg.CgroupEntry {
	if s == nil || !s.strays {
		return nil
	}
	e := &cgimg.CgroupEntry{}
	for i, set := range s.sets[s.first():] {
		se := &cgimg.CgSetEntry{Id: proto.Uint32(uint32(i + s.first() + ownSet))}
		for _, c := range set {
			se.Ctls = append(se.Ctls, &cgimg.CgMemberEntry{Name: proto.String(c.Controllers), Path: proto.String(c.Path)})
		}
		e.Sets = append(e.Sets, se)
	}
	for _, c := range s.own {
		ce := &cgimg.CgControllerEntry{Cnames: strings.Split(c.Controllers, ","), IsThreaded: proto.Bool(s.threaded[c.Controllers])}
		if d := s.dirs[c.Controllers]; d != nil {
			ce.Dirs = entries(d.children)
		}
		e.Controllers = append(e.Controllers, ce)
	}
	return e
}
