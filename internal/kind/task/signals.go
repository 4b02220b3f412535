package task

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/criu-sa"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/remote"
)

// Sigactions are the signal handlers of a process.
type Sigactions struct{}

// Name implements kind.Facet.
func (Sigactions) Name() string { return "signal handlers" }

// actions are the signals whose action can be set, in the order of images.
func actions(yield func(i int, sig uint64) bool) {
	i := 0
	for sig := uint64(1); sig <= linux.NSIG; sig++ {
		if sig == uint64(unix.SIGKILL) || sig == uint64(unix.SIGSTOP) {
			continue
		}
		if !yield(i, sig) {
			return
		}
		i++
	}
}

const actionCount = linux.NSIG - 2

// Dump implements kind.Facet.
func (Sigactions) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(actionCount * linux.KernelSigactionSize)
	for i, sig := range actions {
		q.Batch.Call("rt_sigaction", unix.SYS_RT_SIGACTION, sig, 0, uint64(at)+uint64(i)*linux.KernelSigactionSize, linux.KernelSigsetSize)
	}
	return func(c *core.CoreEntry) error {
		b, err := q.Batch.Output(at, actionCount*linux.KernelSigactionSize)
		if err == nil {
			c.Tc.Sigactions = getActions(b)
		}
		return err
	}, nil
}

// getActions reads struct kernel_sigaction: handler, flags, restorer, mask.
func getActions(b []byte) []*criu_sa.SaEntry {
	const size = linux.KernelSigactionSize
	out := make([]*criu_sa.SaEntry, len(b)/size)
	at := func(i int) []byte { return b[i*size:][:size] }
	var kept [4]int // ones that differ: most signals have what another one has
	n := 0
	for i := range out {
		for _, k := range kept[:n] {
			if bytes.Equal(at(i), at(k)) {
				out[i] = out[k]
			}
		}
		if out[i] == nil {
			out[i] = getAction(at(i))
			kept[min(n, len(kept)-1)] = i
			n = min(n+1, len(kept))
		}
	}
	return out
}

func getAction(b []byte) *criu_sa.SaEntry {
	var v [linux.KernelSigactionSize / 8]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return &criu_sa.SaEntry{Sigaction: &v[0], Flags: &v[1], Restorer: &v[2], Mask: &v[3], CompatSigaction: new(bool)}
}

// ShareActions has an entry that was read use the handlers of another one, as far as
// they are the same: they are most of what is in the entry of a process.
func ShareActions(c, with *core.CoreEntry) {
	own, its := c.GetTc().GetSigactions(), with.GetTc().GetSigactions()
	if len(own) != len(its) {
		return
	}
	all := true
	for i := range own {
		if sameAction(own[i], its[i]) {
			own[i] = its[i]
		} else {
			all = false
		}
	}
	if all {
		c.Tc.Sigactions = its
	}
}

func sameAction(a, b *criu_sa.SaEntry) bool {
	return a.GetSigaction() == b.GetSigaction() && a.GetFlags() == b.GetFlags() && a.GetRestorer() == b.GetRestorer() &&
		a.GetMask() == b.GetMask() && a.GetMaskExtended() == b.GetMaskExtended() && a.GetCompatSigaction() == b.GetCompatSigaction()
}

// Restore implements kind.Facet.
func (Sigactions) Restore(r *kind.Redo) error {
	sas := r.Leader.GetTc().GetSigactions()
	if len(sas) != actionCount {
		return fmt.Errorf("core-%d.img: %d signal handlers, expected %d (made by a very old criu?)", r.PID, len(sas), actionCount)
	}
	for i, sig := range actions {
		sa := sas[i]
		if sa.GetCompatSigaction() {
			return kind.Unsupported(fmt.Sprintf("core-%d.img, handler of signal %d", r.PID, sig), "it is a 32-bit one")
		}
		act := r.Batch.U64(sa.GetSigaction(), sa.GetFlags(), sa.GetRestorer(), sa.GetMask())
		r.Batch.Call("rt_sigaction", unix.SYS_RT_SIGACTION, sig, uint64(act), 0, linux.KernelSigsetSize)
	}
	return nil
}

// Default tells whether the leader of a process would let a signal do what it
// does by default: it neither handles, nor ignores, nor blocks it.
func Default(c *core.CoreEntry, sig unix.Signal) bool {
	sas := c.GetTc().GetSigactions()
	if mask := c.GetThreadCore().GetBlkSigset() | c.GetTc().GetBlkSigset(); mask>>(sig-1)&1 != 0 {
		return false
	}
	for i, s := range actions {
		if s == uint64(sig) && i < len(sas) {
			return sas[i].GetSigaction() == 0 // SIG_DFL
		}
	}
	return false
}

// AltStack is the stack that a thread's signal handlers run on.
type AltStack struct{}

// Name implements kind.Facet.
func (AltStack) Name() string { return "alternate signal stack" }

const stackTSize = 24 // stack_t: ss_sp, ss_flags and padding, ss_size

// Dump implements kind.Facet.
func (AltStack) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(stackTSize)
	q.Batch.Call("sigaltstack", unix.SYS_SIGALTSTACK, 0, uint64(at))
	return func(c *core.CoreEntry) error {
		b, err := q.Batch.Output(at, stackTSize)
		if err != nil {
			return err
		}
		sp, flags, size := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint64(b[16:])
		c.ThreadCore.Sas = &core.ThreadSasEntry{SsSp: &sp, SsFlags: &flags, SsSize: &size}
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (AltStack) Restore(r *kind.Redo) error {
	sas := r.Core.GetThreadCore().GetSas()
	if sas == nil {
		return nil
	}
	// SS_ONSTACK says that the stack was in use. It follows from the stack
	// pointer and can't be set.
	flags := sas.GetSsFlags() &^ linux.SS_ONSTACK
	at := putStack(r.Batch, sas.GetSsSp(), flags, sas.GetSsSize())
	r.Batch.Call("sigaltstack", unix.SYS_SIGALTSTACK, uint64(at), 0)
	return nil
}

func putStack(b *remote.Batch, sp uint64, flags uint32, size uint64) remote.Addr {
	return b.U64(sp, uint64(flags), size)
}
