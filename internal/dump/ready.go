package dump

import (
	"errors"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/hugepages"
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
	if err := errors.Join(d.ownNamespaces(), d.readyLock()); err != nil {
		return err
	}
	arch.XStateSize()
	hugepages.Learn()
	d.ports = hasPorts()
	warm.Written(d.xstate[:])
	for _, f := range d.kinds.All() {
		if l, ok := f.(kind.Learner); ok {
			l.Learn()
		}
	}
	warm.Touch(mayFrozen, usedFrozen)
	return nil
}

// hasPorts tells whether processes can have I/O ports here: to give up one that
// we never had changes nothing, where there is such a call (CONFIG_X86_IOPL_IOPERM).
func hasPorts() bool {
	if arch.SysIoperm == 0 {
		return false
	}
	_, _, e := unix.RawSyscall(arch.SysIoperm, 0, 1, 0)
	return e != unix.ENOSYS
}
