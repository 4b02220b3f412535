package vmamem

import (
	"fmt"

	"glis.dev/glis/internal/bpf"
)

// layout is where things are in the running kernel.
type layout struct {
	function          uint32 // type of what calls programs for each mapping of a task
	start, end, flags int    // offsets in struct vm_area_struct
}

// maxStruct is more bytes than the structure has.
const maxStruct = 4096

// kernelLayout reads the layout from the kernel's type information: some 5 MB.
func kernelLayout() (*layout, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer x.Close() //nolint:errcheck // nothing was written
	return findLayout(x)
}

func findLayout(x *bpf.Types) (*layout, error) {
	t, err := x.Find(bpf.Name{Kind: bpf.KindFunc, Name: "bpf_iter_task_vma"}, bpf.Name{Kind: bpf.KindStruct, Name: "vm_area_struct"})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l, vma := layout{function: t[0].ID}, &t[1]
	if l.function == 0 || vma.ID == 0 {
		return nil, fmt.Errorf("%w: the kernel has no iterator over a task's memory", ErrUnavailable)
	}
	f, err := x.Fields(vma, "vm_start", "vm_end", "vm_flags")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, f := range f {
		if f.Offset < 0 || f.Offset > maxStruct {
			return nil, fmt.Errorf("%w: the kernel's mappings lack a start, an end or flags", ErrUnavailable)
		}
	}
	// Since Linux 6.19 the flags are also a bitmap, which may become larger
	// than the word that we read.
	if u := f[2].Union; u != 0 && u != word {
		return nil, fmt.Errorf("%w: the kernel has %d bytes of flags for a mapping", ErrUnavailable, u)
	}
	l.start, l.end, l.flags = f[0].Offset, f[1].Offset, f[2].Offset
	return &l, nil
}

// A record: u64 start, u64 end, u64 flags.
const (
	word       = 8
	recordSize = 3 * word
)

// ctxVMA is in what the iterator calls the program with, struct
// bpf_iter__task_vma.
const ctxVMA = 16

// program writes one record for every mapping.
//
//	r6 context, r7 mapping, r10 end of the stack, where the record is
func program(l *layout) []bpf.Insn {
	return bpf.Finish([]bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load64, 7, 6, ctxVMA, 0),
		bpf.In(bpf.JumpEq, 7, 0, 0, 0), // to the end
		bpf.In(bpf.Load64, 1, 7, l.start, 0),
		bpf.In(bpf.Store64, 10, 1, -recordSize, 0),
		bpf.In(bpf.Load64, 1, 7, l.end, 0),
		bpf.In(bpf.Store64, 10, 1, -recordSize+word, 0),
		bpf.In(bpf.Load64, 1, 7, l.flags, 0),
		bpf.In(bpf.Store64, 10, 1, -recordSize+2*word, 0),
		// seq_write(meta->seq, record, size)
		bpf.In(bpf.Load64, 1, 6, bpf.CtxMeta, 0),
		bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
		bpf.In(bpf.Move, 2, 10, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, -recordSize),
		bpf.In(bpf.MoveImm, 3, 0, 0, recordSize),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite),
	})
}
