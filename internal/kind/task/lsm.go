package task

import (
	"fmt"
	"strings"
	"sync"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
)

// LSM is the security label of a process (SELinux, AppArmor, Smack). A
// restored process has the engine's.
type LSM struct {
	own func() (string, bool) // the engine's; false if no security module gives labels
}

func newLSM() LSM { return LSM{own: sync.OnceValues(ownLabel)} }

func ownLabel() (string, bool) {
	b, err := linux.ReadFile("/proc/self/" + labelFile)
	return label(b), err == nil // EINVAL: nobody gives any
}

// Learn implements kind.Learner.
func (l LSM) Learn() { l.own() }

const labelFile = "attr/current"

// Name implements kind.Facet.
func (LSM) Name() string { return "security label" }

// Dump implements kind.Facet.
func (l LSM) Dump(q *kind.Question) (kind.Answer, error) {
	own, labels := l.own()
	if !labels {
		return nil, nil
	}
	its, err := q.Task.Dir.ReadFile(labelFile)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", q.Task, err)
	}
	if its := label(its); own != its {
		return nil, kind.Unsupported(q.Task, "its security label is %q, Glis's is %q, and labels cannot be carried over yet; start both with the same", its, own)
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
