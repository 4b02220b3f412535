package sockmem

import (
	"slices"

	"glis.dev/glis/internal/bpf"
)

// A record: u32 descriptor, u32 flags of the struct socket before Linux 6.16, s64 status (0: all was read), u64
// address of the program that chooses among sockets of one port, of the inode
// u64 number, u16 mode, u32 owner and group, each in 8 bytes, u64 word of the
// bitmap of descriptors that are closed on exec, u64 address of what holds the
// locks of the inode, struct file, struct sock, each
// padded to 8 bytes.
const (
	recordPassing = 4
	recordProgram = 16
	recordInode   = 24
	recordMode    = 32
	recordUID     = 40
	recordGID     = 48
	recordCloexec = 56
	recordLocks   = 64
	recordHead    = 72
)

func align(n int) int { return (n + 7) &^ 7 }

// What the iterator calls the program with: struct bpf_iter__task_file.
const (
	ctxTask = 8
	ctxFD   = 16
	ctxFile = 24
)

// program writes one record for every file that is a socket.
//
//	r6 context, r7 file, r8 sock, r9 record in the map
func program(l *layout, scratch int) []bpf.Insn {
	fileAt, sockAt := recordHead, recordHead+align(l.file)
	inode := func(to, size, field int) []bpf.Insn {
		return bpf.CopyInto(to, size, bpf.In(bpf.Load64, 3, 9, fileAt+l.inode, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.owned[field]))
	}
	more := slices.Concat(
		inode(recordInode, 8, 0), inode(recordMode, 2, 1), inode(recordUID, 4, 2), inode(recordGID, 4, 3), inode(recordLocks, 8, 4),
		// task->files->fdt->close_on_exec[fd / 64]
		bpf.CopyInto(recordCloexec, 8, bpf.In(bpf.Load64, 3, 6, ctxTask, 0), bpf.In(bpf.JumpEq, 3, 0, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.table[0])),
		bpf.CopyInto(recordCloexec, 8, bpf.In(bpf.Load64, 3, 9, recordCloexec, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.table[1])),
		bpf.CopyInto(recordCloexec, 8, bpf.In(bpf.Load64, 3, 9, recordCloexec, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.table[2])),
		bpf.CopyInto(recordCloexec, 8, bpf.In(bpf.Load64, 3, 9, recordCloexec, 0),
			bpf.In(bpf.Load32, 4, 9, 0, 0), bpf.In(bpf.Right, 4, 0, 0, 6), bpf.In(bpf.Left, 4, 0, 0, 3), bpf.In(bpf.Add, 3, 4, 0, 0)),
	)
	var passing []bpf.Insn
	if l.passing >= 0 {
		passing = []bpf.Insn{bpf.In(bpf.Load32, 1, 0, l.passing, 0), bpf.In(bpf.Store32, 9, 1, recordPassing, 0)}
	}
	return bpf.Finish(slices.Concat([]bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load64, 7, 6, ctxFile, 0),
		bpf.In(bpf.JumpEq, 7, 0, 0, 0), // to the end
		bpf.In(bpf.Move, 1, 7, 0, 0),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SockFromFile),
		bpf.In(bpf.JumpEq, 0, 0, 0, 0),
		bpf.In(bpf.Load64, 8, 0, l.sk, 0),
		bpf.In(bpf.JumpEq, 8, 0, 0, 0),
		bpf.In(bpf.Imm64, 9, bpf.PseudoMapValue, 0, scratch), bpf.In(0, 0, 0, 0, 0),
	}, passing, []bpf.Insn{
		bpf.In(bpf.Load32, 1, 6, ctxFD, 0),
		bpf.In(bpf.Store32, 9, 1, 0, 0),
		// probe_read_kernel(record.file, size, file)
		bpf.In(bpf.Move, 1, 9, 0, 0), bpf.In(bpf.AddImm, 1, 0, 0, fileAt),
		bpf.In(bpf.MoveImm, 2, 0, 0, l.file),
		bpf.In(bpf.Move, 3, 7, 0, 0),
		bpf.In(bpf.Call, 0, 0, 0, bpf.ProbeReadKernel),
		bpf.In(bpf.Store64, 9, 0, 8, 0),
		// probe_read_kernel(record.sock, size, sock)
		bpf.In(bpf.Move, 1, 9, 0, 0), bpf.In(bpf.AddImm, 1, 0, 0, sockAt),
		bpf.In(bpf.MoveImm, 2, 0, 0, l.sock),
		bpf.In(bpf.Move, 3, 8, 0, 0),
		bpf.In(bpf.Call, 0, 0, 0, bpf.ProbeReadKernel),
		bpf.In(bpf.Load64, 1, 9, 8, 0),
		bpf.In(bpf.Or, 0, 1, 0, 0),
		bpf.In(bpf.Store64, 9, 0, 8, 0),
		// probe_read_kernel(record.program, 8, &sock.sk_reuseport_cb->prog):
		// reading where nothing is gives 0.
		bpf.In(bpf.Move, 1, 9, 0, 0), bpf.In(bpf.AddImm, 1, 0, 0, recordProgram),
		bpf.In(bpf.MoveImm, 2, 0, 0, 8),
		bpf.In(bpf.Load64, 3, 9, sockAt+l.group, 0), bpf.In(bpf.AddImm, 3, 0, 0, l.program),
		bpf.In(bpf.Call, 0, 0, 0, bpf.ProbeReadKernel),
	}, more, []bpf.Insn{
		// seq_write(meta->seq, record, size)
		bpf.In(bpf.Load64, 1, 6, bpf.CtxMeta, 0),
		bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
		bpf.In(bpf.Move, 2, 9, 0, 0),
		bpf.In(bpf.MoveImm, 3, 0, 0, sockAt+align(l.sock)),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite),
	}))
}
