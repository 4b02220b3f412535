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
