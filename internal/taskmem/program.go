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

// own are what a thread may have of its own, if the kernel has it at all: a
// session keyring (keyctl(2)), one for itself, a login uid, and I/O ports (iopl(2)).
var own = [...]struct {
	// in is the structure that the member is in, and by how it is found from
	// struct task_struct; "" if it is that itself.
	in, by string
	far    bool // by is a pointer
	member string
	load   uint8
}{
	{"cred", "cred", true, "session_keyring", bpf.Load64},
	{"cred", "cred", true, "thread_keyring", bpf.Load64},
	{"", "", false, "loginuid", bpf.Load32},
	{"thread_struct", "thread", false, "iopl_emul", bpf.Load64},
}

// keyringOfOne is the one of own that all threads must lack to be alike.
const keyringOfOne = 1

// A record: those pointers, and what a thread may have of its own.
const (
	word       = 8
	recordSize = (len(shared) + len(own)) * word
)

// maxStruct is more bytes than the structure has, and an offset that an
// instruction can say.
const maxStruct = 1<<15 - 1

// place is where something is: at at, behind the pointer at via if that is not
// below zero. There is nothing if at is.
type place struct {
	via, at int
	load    uint8
}

// layout is where things are in the running kernel.
type layout struct {
	function uint32 // type of what calls programs for each thread
	words    [len(shared) + len(own)]place
}

func findLayout(x *bpf.Types) (*layout, error) {
	var l layout
	structs := map[string]*bpf.Type{"task_struct": nil, "cred": nil, "thread_struct": nil}
	left := len(structs) + 1
	err := x.Each(func(t *bpf.Type) bool {
		if l.function == 0 && t.Kind == bpf.KindFunc && x.Named(t, "bpf_iter_task") {
			l.function = t.ID
			left--
		}
		if t.Kind == bpf.KindStruct && t.Size > 0 {
			for name, found := range structs {
				if found == nil && x.Named(t, name) {
					its := *t
					structs[name] = &its
					left--
				}
			}
		}
		return left > 0
	})
	if err != nil {
		return nil, err
	}
	if left > 0 {
		return nil, errors.New("the kernel has no iterator over threads")
	}
	return &l, l.find(x, structs)
}

// find fills in the words of a record.
func (l *layout) find(x *bpf.Types, structs map[string]*bpf.Type) error {
	task := structs["task_struct"]
	f, err := x.Fields(task, shared[:]...)
	if err != nil {
		return err
	}
	for i, f := range f {
		if f.Offset <= 0 || f.Offset > maxStruct {
			return errors.New("the kernel's threads lack " + shared[i])
		}
		l.words[i] = place{-1, f.Offset, bpf.Load64}
	}
	for i, o := range own {
		w := place{-1, -1, o.load}
		if o.in == "" {
			w.at = x.Member(task, o.member)
		} else if via, at := x.Member(task, o.by), x.Member(structs[o.in], o.member); via >= 0 && at >= 0 {
			if w.at = at; o.far {
				w.via = via
			} else {
				w.at += via
			}
		}
		if w.via > maxStruct || w.at > maxStruct {
			return errors.New("the kernel's threads have no room for " + o.member)
		}
		l.words[len(shared)+i] = w
	}
	return nil
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
	for i, w := range l.words {
		switch {
		case w.at < 0:
			out = append(out, bpf.In(bpf.MoveImm, 1, 0, 0, 0))
		case w.via < 0:
			out = append(out, bpf.In(w.load, 1, 7, w.at, 0))
		default:
			out = append(out, bpf.In(bpf.Load64, 1, 7, w.via, 0), bpf.In(w.load, 1, 1, w.at, 0))
		}
		out = append(out, bpf.In(bpf.Store64, 10, 1, i*word-recordSize, 0))
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
