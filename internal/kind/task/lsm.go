package task

import (
	"fmt"
	"strings"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
)

// LSM is the security label of a process (SELinux, AppArmor, Smack). A
// restored process has the engine's.
type LSM struct{}

const labelFile = "attr/current"

// Name implements kind.Facet.
func (LSM) Name() string { return "security label" }

// Dump implements kind.Facet.
func (LSM) Dump(q *kind.Question) (kind.Answer, error) {
	own, err := linux.ReadFile("/proc/self/" + labelFile)
	if err != nil {
		return nil, nil // EINVAL: no security module gives labels
	}
	its, err := q.Task.Dir.ReadFile(labelFile)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", q.Task, err)
	}
	if a, b := label(own), label(its); a != b {
		return nil, kind.Unsupported(q.Task, "its security label is %q, Glis's is %q, and labels cannot be carried over yet; start both with the same", b, a)
	}
	return nil, nil
}

func label(b []byte) string { return strings.TrimRight(string(b), "\x00\n") }

// Restore implements kind.Facet.
func (LSM) Restore(r *kind.Redo) error {
	if p := r.Leader.GetThreadCore().GetCreds().GetLsmProfile(); p != "" {
		return kind.Unsupported(fmt.Sprintf("core-%d.img, security label %q", r.PID, p), "labels cannot be restored yet")
	}
	return nil
}
