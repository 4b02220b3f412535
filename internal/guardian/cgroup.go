package guardian

import (
	"bytes"
	"errors"
	"slices"

	"glis.dev/glis/internal/cgroupfs"
)

// made is a cgroup that is removed if a restore is taken back.
type made struct{ hierarchy, path string }

func (m made) append(b []byte) []byte {
	return append(append(append(b, m.hierarchy...), 0), m.path...)
}

// readMade reads what append has written.
func readMade(body []byte) (made, bool) {
	hierarchy, path, ok := bytes.Cut(body, []byte{0})
	return made{string(hierarchy), string(path)}, ok
}

// Cgroup says that a cgroup is about to be made, in the hierarchy of that name
// as /proc/PID/cgroup has it.
func (g *Guard) Cgroup(hierarchy, path string) error {
	return g.journal.put(recordCgroup, made{hierarchy, path}.append)
}

// removeCgroups removes the cgroups that the engine has made, inner ones first.
func (s *story) removeCgroups() error {
	var errs []error
	for _, m := range slices.Backward(s.cgroups) {
		h, err := cgroupfs.Open(m.hierarchy)
		if err == nil {
			err = errors.Join(h.Remove(m.path), h.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// frozen is a cgroup that the engine freezes for a moment, and how it is to be
// if the engine dies.
type frozen struct {
	path string
	was  bool
}

func (f frozen) append(b []byte) []byte {
	if f.was {
		return append(append(b, 1), f.path...)
	}
	return append(append(b, 0), f.path...)
}

// Frozen says that a cgroup, by its path in the file system, is about to be
// frozen, and was before, or not.
func (g *Guard) Frozen(path string, was bool) error {
	return g.journal.put(recordFrozen, frozen{path, was}.append)
}

// thawCgroup has the cgroup be as it was.
func (s *story) thawCgroup() error {
	if s.frozen.path == "" {
		return nil
	}
	f, err := cgroupfs.OpenFreezer(s.frozen.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Set(s.frozen.was), f.Close())
}
