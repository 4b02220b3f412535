package plan

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// Opened is a Node of which a task that alone has it can make all there is by opening it.
type Opened interface {
	Node
	// Ownable tells from images alone whether it is one.
	Ownable() bool
	// Look returns what looks for its directory, beside whatever else is done.
	Look() func()
	// Opening looks how; not ok: only Create makes it.
	Opening() (o Opening, ok bool)
	// Confirm takes note of what was opened, or says why it is not what it was.
	Confirm(env *Env, st *unix.Stat_t) error
}

// Opening is an openat(2) that has no effect but to open a file, and doesn't wait.
type Opening struct {
	Dir   *fd.FD // of the engine
	Name  string
	Flags int // without O_CLOEXEC
	Pos   uint64
}
