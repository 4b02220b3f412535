package taskmem

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// Undo is a loaded program that tells who has something to undo in semaphores,
// see SEM_UNDO in semop(2): nothing else shows it.
type Undo struct {
	program int
	list    int // of struct sem_undo_list: where its entries are
}

// OpenUndo loads the program; see Open.
func OpenUndo() (*Undo, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var u Undo
	function, at, err := u.layout(x)
	if err = errors.Join(err, x.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if u.program, err = linux.BPFLoadIterator(u.code(at), bpf.License, function); err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", ErrUnavailable, err)
	}
	return &u, nil
}

// layout finds what the program looks at: in a thread, at at, the list that its
// process has, and in that the entries.
func (u *Undo) layout(x *bpf.Types) (function uint32, at int, err error) {
	t, err := x.Find(bpf.Name{Kind: bpf.KindFunc, Name: "bpf_iter_task"},
		bpf.Name{Kind: bpf.KindStruct, Name: "task_struct"}, bpf.Name{Kind: bpf.KindStruct, Name: "sem_undo_list"})
	if err == nil && (t[0].ID == 0 || t[1].ID == 0 || t[2].ID == 0) {
		err = errors.New("the kernel has no iterator over threads, or no semaphores")
	}
	if err != nil {
		return 0, 0, err
	}
	own, err := x.Fields(&t[1], "sysvsem")
	if err != nil {
		return 0, 0, err
	}
	entries, err := x.Fields(&t[2], "list_proc")
	if err != nil {
		return 0, 0, err
	}
	if own[0].Offset <= 0 || own[0].Offset > maxStruct || entries[0].Offset <= 0 || entries[0].Offset > maxStruct {
		return 0, 0, errors.New("the kernel's threads lack what they have to undo")
	}
	u.list = entries[0].Offset
	return t[0].ID, own[0].Offset, nil
}

// undoRecord is the list and its first entry, both 0 if there is no list.
const undoRecord = 2 * word64

// code writes one record for every thread.
//
//	r6 context, r7 thread, r10 end of the stack, where the record is
func (u *Undo) code(at int) []bpf.Insn {
	return bpf.Finish([]bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load64, 7, 6, ctxTask, 0),
		bpf.In(bpf.JumpEq, 7, 0, 0, 0), // to the end
		bpf.In(bpf.Load64, 1, 7, at, 0),
		bpf.In(bpf.Store64, 10, 1, -undoRecord, 0),
		bpf.In(bpf.Load64, 1, 1, u.list, 0), // 0 if there is no list
		bpf.In(bpf.Store64, 10, 1, word64-undoRecord, 0),
		// seq_write(meta->seq, record, size)
		bpf.In(bpf.Load64, 1, 6, bpf.CtxMeta, 0),
		bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
		bpf.In(bpf.Move, 2, 10, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, -undoRecord),
		bpf.In(bpf.MoveImm, 3, 0, 0, undoRecord),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite),
	})
}

// Any tells whether the process of a pidfd, of at most n threads, has used
// SEM_UNDO on semaphores that are still there.
func (u *Undo) Any(pidfd, n int) (bool, error) {
	it, err := linux.BPFTaskIterator(u.program, pidfd)
	if err != nil {
		return false, fmt.Errorf("%w: bpf iterator over threads: %w", ErrUnavailable, err)
	}
	defer unix.Close(it) //nolint:errcheck // nothing was written
	b, err := read(it, n*undoRecord, undoRecord)
	if err != nil || len(b)%undoRecord != 0 {
		return false, errors.Join(ErrUnavailable, err)
	}
	for ; len(b) > 0; b = b[undoRecord:] {
		list, first := binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint64(b[word64:])
		if list != 0 && first != list+uint64(u.list) { // an empty list is its own first entry
			return true, nil
		}
	}
	return false, nil
}

// Close unloads the program. It does nothing for nil.
func (u *Undo) Close() error {
	if u == nil {
		return nil
	}
	return unix.Close(u.program)
}
