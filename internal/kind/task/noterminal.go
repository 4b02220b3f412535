package task

import (
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
)

// NoTerminal is that a process has not the terminal that its session has: it has given that up
// (TIOCNOTTY), or was there before its session had one (TIOCSCTTY), and who made it had none either.
// A restored one has it from its parent, and gives it up once it has its children (GaveUp).
type NoTerminal struct{}

// Name implements kind.Facet.
func (NoTerminal) Name() string { return "no terminal" }

// Dump implements kind.Facet.
func (NoTerminal) Dump(q *kind.Question) (kind.Answer, error) {
	lead := q.Env.Tree.Task(q.Task.Stat.Session)
	if lead == nil || lead.Stat.TTY == 0 || q.Task.Stat.TTY != 0 {
		return nil, nil
	}
	return func(c *core.CoreEntry) error {
		putExtra(c, extraNoTerminal, []byte{})
		return nil
	}, nil
}

// Restore implements kind.Facet: it takes the terminal to give it up, which is not at hand here.
func (NoTerminal) Restore(*kind.Redo) error { return nil }

// GaveUp tells whether a process has not the terminal of its session.
func GaveUp(x kind.Extra) bool { return x[extraNoTerminal] != nil }
