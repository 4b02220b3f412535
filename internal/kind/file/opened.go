package file

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/plan"
)

// Ownable implements plan.Opened.
func (n *regularNode) Ownable() bool {
	const longest = 64 // of names; there is room for these in the task
	return n.dir != nil && n.dir.files >= manyTogether && len(n.name)-len(n.dir.name) <= longest &&
		n.mode&unix.S_IFMT == unix.S_IFREG && n.remap == nil && n.more == nil && n.flags&(unix.O_PATH|unix.O_ASYNC) == 0 &&
		!n.owner.any() && !n.locks.anyBreaking()
}

// Look implements plan.Opened.
func (n *regularNode) Look() func() {
	if n.dir.once.Do(n.dir.open); n.dir.claim() {
		return n.dir.list
	}
	return func() {}
}

// Opening implements plan.Opened.
func (n *regularNode) Opening() (plan.Opening, bool) {
	at, name := n.dir.place(n.name)
	n.dir.await()
	if !n.dir.plain(at, name) {
		return plan.Opening{}, false
	}
	o := plan.Opening{Dir: n.dir.own, Name: name, Flags: n.openFlags() &^ unix.O_CLOEXEC, Pos: n.pos}
	if n.pos == noPosition {
		o.Pos = 0
	}
	return o, true
}

// Confirm implements plan.Opened.
func (n *regularNode) Confirm(env *plan.Env, st *unix.Stat_t) error {
	n.dir.done()
	if err := n.check(env, st); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return nil
}
