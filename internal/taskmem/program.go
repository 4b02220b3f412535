package taskmem

import (
	"slices"

	"glis.dev/glis/internal/bpf"
)

// ctxTask is in what the iterator calls the program with, struct
// bpf_iter__task.
const ctxTask = 8

// A program has 512 bytes of stack: a word for pointers at its top, and below it
// the part of a record that is put together.
const (
	scratch = -8
	room    = 480
)

// assembler puts a program together that writes one record for every thread: its
// number, its own address, and the pieces, each rounded up to whole words.
//
//	r6 context, r7 thread, r8 what a piece is in, r10 end of the stack
type assembler struct {
	out  []bpf.Insn
	have int // bytes of this part so far
	all  int // bytes of the record so far
}

func program(l *layout) (code []bpf.Insn, offsets []int, size int) {
	a := assembler{out: []bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load64, 7, 6, ctxTask, 0),
		bpf.In(bpf.JumpEq, 7, 0, 0, 0), // to the end
	}}
	a.number(l)
	a.out = append(a.out, bpf.In(bpf.Move, 1, 7, 0, 0), bpf.In(bpf.Store64, 10, 1, a.take(word64), 0))
	at := []int{-1} // what r8 is behind
	for _, p := range l.pieces {
		offsets = append(offsets, a.all)
		if p.at < 0 {
			continue
		}
		if !slices.Equal(at, p.via) {
			a.follow(p.via)
			at = p.via
		}
		a.read(a.take(p.size), p.size, 8, p.at)
	}
	a.flush()
	return bpf.Finish(a.out), offsets, a.all
}

// Number and own address of a thread are the first words of a record.
const (
	word64     = 8
	numberAt   = 0
	addressAt  = word64
	recordHead = 2 * word64
)

// number puts the number that a thread has in the PID namespace it is in: the last
// of its struct pid.
func (a *assembler) number(l *layout) {
	a.follow([]int{l.pid})
	a.out = append(a.out, bpf.In(bpf.MoveImm, 1, 0, 0, 0), bpf.In(bpf.Store64, 10, 1, scratch, 0))
	a.read(scratch, 4, 8, l.level)
	a.out = append(a.out,
		bpf.In(bpf.Load64, 1, 10, scratch, 0),
		bpf.In(bpf.Left, 1, 0, 0, 4), // times upidSize
		bpf.In(bpf.Add, 8, 1, 0, 0),
	)
	a.read(a.take(4), 4, 8, l.list+l.number)
}

// take makes room for size bytes of the record, which are 0 up to whole words.
func (a *assembler) take(size int) int {
	whole := (size + word64 - 1) &^ (word64 - 1)
	if a.have+whole > room {
		a.flush()
	}
	slot := scratch - room + a.have
	a.have += whole
	a.all += whole
	if whole != size {
		a.out = append(a.out, bpf.In(bpf.MoveImm, 1, 0, 0, 0), bpf.In(bpf.Store64, 10, 1, slot+whole-word64, 0))
	}
	return slot
}

// follow has r8 be what is behind these pointers of the thread.
func (a *assembler) follow(via []int) {
	a.out = append(a.out, bpf.In(bpf.Move, 8, 7, 0, 0))
	for _, at := range via {
		a.read(scratch, word64, 8, at)
		a.out = append(a.out, bpf.In(bpf.Load64, 8, 10, scratch, 0))
	}
}

// read reads memory, which is 0 if it can't be:
// probe_read_kernel(stack+slot, size, base+at).
func (a *assembler) read(slot, size int, base uint8, at int) {
	a.out = append(a.out,
		bpf.In(bpf.Move, 1, 10, 0, 0), bpf.In(bpf.AddImm, 1, 0, 0, slot),
		bpf.In(bpf.MoveImm, 2, 0, 0, size),
		bpf.In(bpf.Move, 3, base, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, at),
		bpf.In(bpf.Call, 0, 0, 0, bpf.ProbeReadKernel),
	)
}

// flush writes what there is: seq_write(meta->seq, part, size).
func (a *assembler) flush() {
	a.out = append(a.out,
		bpf.In(bpf.Load64, 1, 6, bpf.CtxMeta, 0),
		bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
		bpf.In(bpf.Move, 2, 10, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, scratch-room),
		bpf.In(bpf.MoveImm, 3, 0, 0, a.have),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite),
	)
	a.have = 0
}
