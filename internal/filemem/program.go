package filemem

import (
	"slices"

	"glis.dev/glis/internal/bpf"
)

// A record: u32 descriptor, u32 nothing, u64 length of the path with its NUL,
// of the inode u64 number, u16 mode in 8 bytes, u64 address of what holds its
// locks, u64 address of its file system and u32 device of that in 8 bytes, u64
// word of the bitmap of descriptors that are closed on exec, struct
// file padded to 8 bytes, path.
const (
	recordLength  = 8
	recordInode   = 16
	recordMode    = 24
	recordLocks   = 32
	recordSuper   = 40
	recordDev     = 48
	recordCloexec = 56
	recordHead    = 64
	maxPath       = 4096 // PATH_MAX
)

func align(n int) int { return (n + 7) &^ 7 }

func (l *layout) pathAt() int { return recordHead + align(l.file) }

// What the iterator calls the program with: struct bpf_iter__task_file.
const (
	ctxTask = 8
	ctxFD   = 16
	ctxFile = 24
)

// program writes one record for every file that has a path.
//
//	r6 context, r7 file, r9 record in the map
func program(l *layout, scratch int) []bpf.Insn {
	inode := func(to, size, field int) []bpf.Insn {
		return bpf.CopyInto(to, size, bpf.In(bpf.Load64, 3, 9, recordHead+l.inode, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.owned[field]))
	}
	follow := func(offset int) []bpf.Insn {
		return bpf.CopyInto(recordCloexec, 8, bpf.In(bpf.Load64, 3, 9, recordCloexec, 0), bpf.In(bpf.AddImm, 3, 0, 0, offset))
	}
	return bpf.Finish(slices.Concat(
		[]bpf.Insn{
			bpf.In(bpf.Move, 6, 1, 0, 0),
			bpf.In(bpf.Load64, 7, 6, ctxFile, 0),
			bpf.In(bpf.JumpEq, 7, 0, 0, 0), // to the end
			bpf.In(bpf.Imm64, 9, bpf.PseudoMapValue, 0, scratch), bpf.In(0, 0, 0, 0, 0),
			bpf.In(bpf.Load32, 1, 6, ctxFD, 0),
			bpf.In(bpf.Store32, 9, 1, 0, 0),
		},
		bpf.CopyInto(recordHead, l.file, bpf.In(bpf.Move, 3, 7, 0, 0)),
		inode(recordInode, 8, 0), inode(recordMode, 2, 1), inode(recordLocks, 8, 2), inode(recordSuper, 8, 3),
		bpf.CopyInto(recordDev, 4, bpf.In(bpf.Load64, 3, 9, recordSuper, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.dev)),
		// task->files->fdt->close_on_exec[fd / 64]
		bpf.CopyInto(recordCloexec, 8, bpf.In(bpf.Load64, 3, 6, ctxTask, 0), bpf.In(bpf.JumpEq, 3, 0, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.table[0])),
		follow(l.table[1]), follow(l.table[2]),
		bpf.CopyInto(recordCloexec, 8, bpf.In(bpf.Load64, 3, 9, recordCloexec, 0),
			bpf.In(bpf.Load32, 4, 9, 0, 0), bpf.In(bpf.Right, 4, 0, 0, 6), bpf.In(bpf.Left, 4, 0, 0, 3), bpf.In(bpf.Add, 3, 4, 0, 0)),
		[]bpf.Insn{
			// d_path(&file->f_path, record.path, size)
			bpf.In(bpf.Move, 1, 7, 0, 0), bpf.In(bpf.AddImm, 1, 0, 0, l.path),
			bpf.In(bpf.Move, 2, 9, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, l.pathAt()),
			bpf.In(bpf.MoveImm, 3, 0, 0, maxPath),
			bpf.In(bpf.Call, 0, 0, 0, bpf.DPath),
			bpf.In(bpf.JumpGt, 0, 0, 0, maxPath), // an error is a large number
			bpf.In(bpf.Store64, 9, 0, recordLength, 0),
			// seq_write(meta->seq, record, size)
			bpf.In(bpf.Move, 3, 0, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.pathAt()),
			bpf.In(bpf.Load64, 1, 6, bpf.CtxMeta, 0),
			bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
			bpf.In(bpf.Move, 2, 9, 0, 0),
			bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite),
		},
	))
}
