package dump

import (
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/warm"
)

// What a small tree takes of the engine's own memory while it is frozen, in
// bytes: most of it, and more than that.
const (
	usedFrozen = 384 << 10
	mayFrozen  = 1 << 20
)

// ready has everything done before the freeze that is done once: what the
// machine is like, and finding memory.
func (d *dump) ready() error {
	if err := d.ownNamespaces(); err != nil {
		return err
	}
	arch.XStateSize()
	warm.Written(d.xstate[:])
	for _, f := range d.kinds.All() {
		if l, ok := f.(kind.Learner); ok {
			l.Learn()
		}
	}
	warm.Touch(mayFrozen, usedFrozen)
	return nil
}
