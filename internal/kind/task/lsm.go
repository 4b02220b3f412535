package task

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
)

// LSM is the security label of a process (SELinux, AppArmor, Smack). A
// restored process has the engine's.
type LSM struct {
	own func() ownLabel
}

// ownLabel is the engine's.
type ownLabel struct {
	label string
	none  bool // no security module gives any
	err   error
}

func newLSM() LSM { return LSM{own: sync.OnceValue(readOwnLabel)} }

func readOwnLabel() ownLabel { return labelOf(fd.ReadFile("/proc/self/" + labelFile)) }

// labelOf says what the reading of the engine's label means.
func labelOf(b []byte, err error) ownLabel {
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // nobody gives any; CONFIG_SECURITY is not set
		return ownLabel{none: true}
	case err != nil:
		return ownLabel{err: fmt.Errorf("read Glis's own security label: %w", err)}
	}
	return ownLabel{label: label(b)}
}

// Learn implements kind.Learner.
func (l LSM) Learn() { l.own() }

const labelFile = "attr/current"

// Name implements kind.Facet.
func (LSM) Name() string { return "security label" }

// Dump implements kind.Facet.
func (l LSM) Dump(q *kind.Question) (kind.Answer, error) {
	own := l.own()
	if own.none || own.err != nil {
		return nil, own.err
	}
	its, err := q.Task.Dir.ReadFile(labelFile)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", q.Task, err)
	}
	if its := label(its); own.label != its {
		return nil, kind.Unsupported(q.Task, "its security label is %q, Glis's is %q, and labels cannot be carried over yet; start both with the same", its, own.label)
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
