package vmamem

import (
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// nameless is what smaps says of a property that the kernel has no code for.
const nameless = "??"

// Smaps reads a process's mappings, in which memory that is locked as it is touched
// (mlock2(2), MLOCK_ONFAULT) has its property also where the kernel has no code for it:
// older ones than Linux 6.11 or so.
func Smaps(d *proc.Dir) ([]proc.VMA, error) {
	vmas, err := d.Smaps()
	if err == nil {
		nameOnFault(vmas)
	}
	return vmas, err
}

func nameOnFault(vmas []proc.VMA) {
	for i := range vmas {
		if v := &vmas[i]; maybeOnFault(v) && onFaultIsNameless() {
			v.Flags, v.Unknown = v.Flags|proc.VmLockOnFault, nil
		}
	}
}

// maybeOnFault tells whether the one property without a name may be that.
func maybeOnFault(v *proc.VMA) bool {
	return v.Flags&(proc.VmLocked|proc.VmLockOnFault) == proc.VmLocked && slices.Equal(v.Unknown, []string{nameless})
}

// onFaultIsNameless finds out what the kernel says of memory of our own.
var onFaultIsNameless = sync.OnceValue(func() bool {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Munmap(b) }()
	if linux.Mlock2(b, linux.MLOCK_ONFAULT) != nil {
		return false
	}
	self, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return false
	}
	defer self.Close()
	own, err := self.Smaps()
	return err == nil && slices.ContainsFunc(own, func(v proc.VMA) bool { return maybeOnFault(&v) })
})
