package options

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// CgroupRoot is a cgroup that a tree is saved from, or restored to.
type CgroupRoot struct {
	Controller string // "": of all that have none of their own
	Path       string // absolute, in the hierarchy
}

// Set reads PATH or CONTROLLER:PATH.
func (r *CgroupRoot) Set(s string) error {
	controller, path := "", s
	if !strings.HasPrefix(s, "/") {
		var ok bool
		if controller, path, ok = strings.Cut(s, ":"); !ok || controller == "" {
			return fmt.Errorf("%q is neither /PATH nor CONTROLLER:/PATH", s)
		}
	}
	if !strings.HasPrefix(path, "/") || slices.Contains(strings.Split(path, "/"), "..") {
		return fmt.Errorf("%q is not the absolute path of a cgroup", path)
	}
	*r = CgroupRoot{controller, path}
	return nil
}

// For tells whether the controller of r is in a hierarchy, of which the name is
// as in /proc/PID/cgroup.
func (r CgroupRoot) For(hierarchy string) bool {
	return r.Controller == hierarchy || slices.Contains(strings.Split(hierarchy, ","), r.Controller)
}

// CgroupSpec is which properties of a controller are saved.
type CgroupSpec struct {
	Controller string
	Replace    bool // instead of the usual ones, not beside them
	Names      []string
}

// CgroupSpecs is all that --cgroup-props says.
type CgroupSpecs []CgroupSpec

// The form of a specification, which looks like YAML but isn't: see criu(8). Most
// programs need none.
var (
	propSpec = compiled(`^\s*"([^"]+)"\s*:\s*-\s*"strategy"\s*:\s*"(merge|replace)"\s*-\s*"properties"\s*:\s*\[([^\]]*)\]\s*`)
	propName = compiled(`^\s*"([^"/*?[\\]+)"\s*$`)
)

func compiled(form string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(form) })
}

// Set reads specifications and adds them to those before; none if one is wrong.
func (l *CgroupSpecs) Set(s string) error {
	all := slices.Clone(*l)
	for strings.TrimSpace(s) != "" {
		m := propSpec().FindStringSubmatch(s)
		if m == nil {
			return fmt.Errorf("%q does not begin with \"CONTROLLER\":, - \"strategy\": \"merge\" or \"replace\", and - \"properties\": [\"NAME\", …]", s)
		}
		p := CgroupSpec{Controller: m[1], Replace: m[2] == "replace"}
		if strings.TrimSpace(m[3]) != "" {
			for quoted := range strings.SplitSeq(m[3], ",") {
				n := propName().FindStringSubmatch(quoted)
				if n == nil {
					return fmt.Errorf("%q is no name of a property in double quotes", quoted)
				}
				p.Names = append(p.Names, n[1])
			}
		}
		all = append(all, p)
		s = s[len(m[0]):]
	}
	*l = all
	return nil
}

// AllCgroupProps returns what --cgroup-props and --cgroup-props-file say.
func (d *Dump) AllCgroupProps() ([]CgroupSpec, error) {
	all := slices.Clone(d.CgroupProps)
	if d.CgroupPropsFile != "" {
		b, err := os.ReadFile(d.CgroupPropsFile)
		if err == nil {
			err = all.Set(string(b))
		}
		if err != nil {
			return nil, fmt.Errorf("--cgroup-props-file: %w", err)
		}
	}
	return all, nil
}
