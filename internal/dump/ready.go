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

// eachFrozen is what a descriptor takes of it where there are many, and mostFrozen
// for how much that is found before.
const (
	eachFrozen = 6 << 10
	mostFrozen = 20 << 20
)

// frozenRoom is how much memory is found for a tree with so many descriptors.
func frozenRoom(descriptors int) int {
	if descriptors < manyDescriptors {
		return mayFrozen
	}
	return mayFrozen + min(descriptors*eachFrozen, mostFrozen)
}

// ready has everything done before the freeze that is done once: what the
// machine is like, and finding memory.
func (d *dump) ready() error {
	if err := errors.Join(d.ownNamespaces(), d.readyLock()); err != nil {
		return err
	}
	arch.XStateSize()
	if err := hugepages.Learn(); err != nil {
		return err
	}
	d.ports = hasPorts()
	warm.Written(d.xstate[:])
	for _, f := range d.kinds.All() {
		if l, ok := f.(kind.Learner); ok {
			l.Learn()
		}
	}
	if d.descriptorsSeen >= manyDescriptors {
		warm.Small()
	}
	warm.Touch(frozenRoom(d.descriptorsSeen), usedFrozen)
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
