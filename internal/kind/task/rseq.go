package task

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/rseq"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// Rseq is the registration of a thread's restartable sequences, see
// include/uapi/linux/rseq.h. C libraries register one for every thread.
type Rseq struct{}

// Layout of struct rseq and struct rseq_cs.
const (
	rseqCSAt   = 8 // rseq.rseq_cs
	rseqMin    = 32
	rseqMax    = 4096
	rseqCSSize = 32
)

// Name implements kind.Facet.
func (Rseq) Name() string { return "rseq" }

// Dump implements kind.Facet. The registration is known since the thread was
// frozen: FixRseq had to look at it.
func (Rseq) Dump(q *kind.Question) (kind.Answer, error) {
	return func(c *core.CoreEntry) error {
		r := q.Thread.Rseq
		c.ThreadCore.RseqEntry = &rseq.RseqEntry{RseqAbiPointer: &r.Pointer, RseqAbiSize: &r.Size, Signature: &r.Signature}
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (Rseq) Restore(r *kind.Redo) error {
	e := r.Core.GetThreadCore().GetRseqEntry()
	if e.GetRseqAbiPointer() == 0 {
		return nil
	}
	if s := e.GetRseqAbiSize(); s < rseqMin || s > rseqMax {
		return fmt.Errorf("core-%d.img: a struct rseq of %d bytes makes no sense", r.TID, s)
	}
	r.Batch.Call("rseq", unix.SYS_RSEQ, e.GetRseqAbiPointer(), uint64(e.GetRseqAbiSize()), 0, uint64(e.GetSignature()))
	return nil
}

// FixRseq aborts the restartable sequence that a thread was frozen in, if any:
// its registers then are at the abort handler, where the kernel itself would
// have sent it for being interrupted. Call it before anything else runs in the
// thread: the first system call made there makes the kernel forget the
// sequence, and the thread would finish it with nobody watching.
func FixRseq(t *scan.Thread) error {
	if t.Rseq.Pointer == 0 {
		return nil
	}
	var p [8]byte
	if err := t.Read(remote.Addr(t.Rseq.Pointer+rseqCSAt), p[:]); err != nil {
		return fmt.Errorf("thread %d: struct rseq: %w", t.TID, err)
	}
	at := binary.LittleEndian.Uint64(p[:])
	if at == 0 {
		return nil
	}
	var b [rseqCSSize]byte
	if err := t.Read(remote.Addr(at), b[:]); err != nil {
		// The descriptor may be gone with the library it was in. The kernel
		// looks at it only when the thread runs on, which is not our doing.
		return nil
	}
	if abort, ok := abortIP(b[:], arch.IP(&t.Regs)); ok {
		arch.SetIP(&t.Regs, abort)
	}
	return nil
}

// abortIP tells where a thread at ip goes if the sequence described by a
// struct rseq_cs is interrupted; false if ip is not inside.
func abortIP(cs []byte, ip uint64) (uint64, bool) {
	start, length, abort := binary.LittleEndian.Uint64(cs[8:]), binary.LittleEndian.Uint64(cs[16:]), binary.LittleEndian.Uint64(cs[24:])
	return abort, ip-start < length
}
