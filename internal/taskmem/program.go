package taskmem

import (
	"errors"

	"glis.dev/glis/internal/bpf"
)

// shared are the members of struct task_struct that point to what threads share
// until one leaves it (unshare(2), setns(2)). What nsproxy points to never
// changes: a thread that goes into another namespace gets another one. What
// cgroups points to is the set of cgroups, one of all hierarchies.
var shared = [...]string{"nsproxy", "files", "fs", "cgroups"}

// A record: those pointers.
const (
	word       = 8
	recordSize = len(shared) * word
)

// maxStruct is more bytes than the structure has, and an offset that an
// instruction can say.
const maxStruct = 1<<15 - 1

// layout is where things are in the running kernel.
type layout struct {
	function uint32 // type of what calls programs for each thread
	at       [len(shared)]int
}

func findLayout(x *bpf.Types) (*layout, error) {
	var l layout
	var task bpf.Type
	err := x.Each(func(t *bpf.Type) bool {
		switch {
		case t.Kind == bpf.KindFunc && x.Named(t, "bpf_iter_task"):
			l.function = t.ID
		case t.Kind == bpf.KindStruct && t.Size > 0 && x.Named(t, "task_struct"):
			task = *t
		}
		return l.function == 0 || task.ID == 0
	})
	if err != nil {
		return nil, err
	}
	if l.function == 0 || task.ID == 0 {
		return nil, errors.New("the kernel has no iterator over threads")
	}
	f, err := x.Fields(&task, shared[:]...)
	if err != nil {
		return nil, err
	}
	for i, f := range f {
		if f.Offset <= 0 || f.Offset > maxStruct {
			return nil, errors.New("the kernel's threads lack " + shared[i])
		}
		l.at[i] = f.Offset
	}
	return &l, nil
}

// ctxTask is in what the iterator calls the program with, struct
// bpf_iter__task.
const ctxTask = 8

// program writes one record for every thread.
//
//	r6 context, r7 thread, r10 end of the stack, where the record is
func program(l *layout) []bpf.Insn {
	out := []bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load64, 7, 6, ctxTask, 0),
		bpf.In(bpf.JumpEq, 7, 0, 0, 0), // to the end
	}
	for i, at := range l.at {
		out = append(out, bpf.In(bpf.Load64, 1, 7, at, 0), bpf.In(bpf.Store64, 10, 1, i*word-recordSize, 0))
	}
	return bpf.Finish(append(out,
		// seq_write(meta->seq, record, size)
		bpf.In(bpf.Load64, 1, 6, bpf.CtxMeta, 0),
		bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
		bpf.In(bpf.Move, 2, 10, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, -recordSize),
		bpf.In(bpf.MoveImm, 3, 0, 0, recordSize),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite),
	))
}
