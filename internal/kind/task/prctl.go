package task

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// askInt queues a prctl(2) that writes an int, and returns how to read it.
func askInt(b *remote.Batch, name string, option uint64) func() (uint32, error) {
	at, _ := b.Alloc(4)
	b.Call("prctl "+name, unix.SYS_PRCTL, option, uint64(at))
	return func() (uint32, error) {
		out, err := b.Output(at, 4)
		if err != nil {
			return 0, err
		}
		return binary.LittleEndian.Uint32(out), nil
	}
}

// Subreaper makes a process the parent of its orphaned descendants.
type Subreaper struct{}

// Name implements kind.Facet.
func (Subreaper) Name() string { return "child subreaper" }

// Dump implements kind.Facet.
func (Subreaper) Dump(q *kind.Question) (kind.Answer, error) {
	get := askInt(q.Batch, "PR_GET_CHILD_SUBREAPER", linux.PR_GET_CHILD_SUBREAPER)
	return func(c *core.CoreEntry) error {
		v, err := get()
		on := v != 0
		c.Tc.ChildSubreaper = &on
		return err
	}, nil
}

// Restore implements kind.Facet.
func (Subreaper) Restore(r *kind.Redo) error {
	v := uint64(0)
	if r.Leader.GetTc().GetChildSubreaper() {
		v = 1
	}
	r.Batch.Call("prctl PR_SET_CHILD_SUBREAPER", unix.SYS_PRCTL, linux.PR_SET_CHILD_SUBREAPER, v)
	return nil
}

// DeathSignal is what a thread gets when its parent dies.
type DeathSignal struct{}

// Name implements kind.Facet.
func (DeathSignal) Name() string { return "parent-death signal" }

// Dump implements kind.Facet.
func (DeathSignal) Dump(q *kind.Question) (kind.Answer, error) {
	get := askInt(q.Batch, "PR_GET_PDEATHSIG", unix.PR_GET_PDEATHSIG)
	return func(c *core.CoreEntry) error {
		v, err := get()
		if v != 0 {
			c.ThreadCore.PdeathSig = &v
		}
		return err
	}, nil
}

// Restore implements kind.Facet.
func (DeathSignal) Restore(r *kind.Redo) error {
	sig := r.Core.GetThreadCore().GetPdeathSig()
	if sig > linux.NSIG {
		return fmt.Errorf("core-%d.img: parent-death signal %d makes no sense", r.TID, sig)
	}
	if sig != 0 {
		r.Batch.Call("prctl PR_SET_PDEATHSIG", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uint64(sig))
	}
	return nil
}

// Membarrier is what a process has registered for with membarrier(2).
type Membarrier struct{}

// From include/uapi/linux/membarrier.h.
const (
	membarrierGet = 1 << 9 // MEMBARRIER_CMD_GET_REGISTRATIONS, Linux 6.3
	// The MEMBARRIER_CMD_REGISTER_* commands. What registers is the bit
	// above the command that needs it.
	membarrierRegister = 1<<2 | 1<<4 | 1<<6 | 1<<8
)

// Name implements kind.Facet.
func (Membarrier) Name() string { return "memory barriers" }

// Dump implements kind.Facet.
func (Membarrier) Dump(q *kind.Question) (kind.Answer, error) {
	get := q.Batch.Try("membarrier", unix.SYS_MEMBARRIER, membarrierGet)
	probes := map[uint32]remote.Call{}
	if _, _, e := unix.RawSyscall(unix.SYS_MEMBARRIER, membarrierGet, 0, 0); e != 0 {
		// Before Linux 6.3: a barrier works for who has registered. There is
		// no way to ask about MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED.
		for bit := uint32(3); bit <= 7; bit += 2 {
			probes[1<<(bit+1)] = q.Batch.Try("membarrier", unix.SYS_MEMBARRIER, 1<<bit)
		}
	}
	return func(c *core.CoreEntry) error {
		var mask uint32
		if v, err := get.Result(); err == nil {
			mask = uint32(v) & membarrierRegister
		} else if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return err
		}
		for bit, call := range probes {
			if _, err := call.Result(); err == nil {
				mask |= bit
			}
		}
		if mask != 0 {
			c.Tc.MembarrierRegistrationMask = &mask
		}
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (Membarrier) Restore(r *kind.Redo) error {
	mask := r.Leader.GetTc().GetMembarrierRegistrationMask()
	if mask&^membarrierRegister != 0 {
		return fmt.Errorf("core-%d.img: membarrier registrations %#x are unknown", r.PID, mask)
	}
	for bit := range 32 {
		if mask>>bit&1 != 0 {
			r.Batch.Call("membarrier", unix.SYS_MEMBARRIER, 1<<bit)
		}
	}
	return nil
}

// XStatePermission is leave to use registers that take much room (AMX tiles):
// a process asks for it once, for all its threads. A thread that never used
// them shows no trace of it.
type XStatePermission struct{}

// From arch/x86/include/uapi/asm/prctl.h, Linux 5.16.
const (
	archGetXcompPerm = 0x1022
	archReqXcompPerm = 0x1023
)

// Name implements kind.Facet.
func (XStatePermission) Name() string { return "permission for large registers" }

// Dump implements kind.Facet.
func (XStatePermission) Dump(q *kind.Question) (kind.Answer, error) {
	if arch.DynamicXState() == 0 {
		return nil, nil
	}
	at, _ := q.Batch.Alloc(8)
	call := q.Batch.Try("arch_prctl ARCH_GET_XCOMP_PERM", arch.SysArchPrctl, archGetXcompPerm, uint64(at))
	return func(c *core.CoreEntry) error {
		if _, err := call.Result(); err != nil {
			return nil // a kernel that never gives it
		}
		b, err := q.Batch.Output(at, 8)
		if err != nil {
			return err
		}
		if own := binary.LittleEndian.Uint64(b) & arch.DynamicXState(); own != 0 {
			putExtra(c, extraXPermission, binary.LittleEndian.AppendUint64(nil, own))
		}
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (XStatePermission) Restore(r *kind.Redo) error {
	b, err := sized(r.Extra, extraXPermission, 8)
	if b == nil || err != nil {
		return err
	}
	own := binary.LittleEndian.Uint64(b)
	for bit := range 64 {
		if own>>bit&1 != 0 {
			r.Batch.Call("arch_prctl ARCH_REQ_XCOMP_PERM", arch.SysArchPrctl, archReqXcompPerm, uint64(bit))
		}
	}
	return nil
}

// RestoreDumpable queues what makes a process as dumpable as its mm image
// says (nil: it doesn't). It must run in the leader after the credentials of
// every thread have changed.
//
// The value 2 can't be set; it is what fs.suid_dumpable gave the process when
// its credentials changed. 0 protects it as well, or better.
func RestoreDumpable(b *remote.Batch, pid scan.VPID, dumpable *int32) error {
	switch {
	case dumpable == nil:
		return nil
	case *dumpable == 0 || *dumpable == 1:
		b.Call("prctl PR_SET_DUMPABLE", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, uint64(*dumpable))
	case *dumpable == 2:
		b.Call("prctl PR_SET_DUMPABLE", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	default:
		return fmt.Errorf("mm-%d.img: dumpable is %d, which makes no sense", pid, *dumpable)
	}
	return nil
}

// RestoreUmask queues the file mode creation mask of fs-PID.img.
func RestoreUmask(b *remote.Batch, mask uint32) {
	b.Call("umask", unix.SYS_UMASK, uint64(mask))
}

// Umask returns the mask for fs-PID.img.
func Umask(t *scan.Task) uint32 { return uint32(max(t.Status.Umask, 0)) }
