package sockmem

import "glis.dev/glis/internal/linux"

// A record: u32 descriptor, u32 nothing, s64 status (0: all was read), struct
// file, struct sock, each padded to 8 bytes.
const recordHead = 16

func align(n int) int { return (n + 7) &^ 7 }

// Opcodes and helpers, see include/uapi/linux/bpf.h and bpf-helpers(7).
const (
	opLoad64  = 0x79 // dst = *(u64 *)(src + off)
	opLoad32  = 0x61
	opStore64 = 0x7b // *(u64 *)(dst + off) = src
	opStore32 = 0x63
	opMove    = 0xbf // dst = src
	opMoveImm = 0xb7
	opAddImm  = 0x07
	opOr      = 0x4f
	opJumpEq  = 0x15 // if dst == imm: pc += off
	opCall    = 0x85
	opExit    = 0x95
	opImm64   = 0x18 // two instructions

	pseudoMapValue = 2 // in an opImm64's source register: address of a map's value

	probeReadKernel = 113 // (to, size, from)
	seqWrite        = 127 // (seq, data, size)
	sockFromFile    = 162 // (file)
)

// What the iterator calls the program with: struct bpf_iter__task_file.
const (
	ctxMeta = 0
	ctxFD   = 16
	ctxFile = 24
	metaSeq = 0 // in struct bpf_iter_meta
)

// program writes one record for every file that is a socket.
//
//	r6 context, r7 file, r8 sock, r9 record in the map
func program(l *layout, scratch int) []linux.BPFInsn {
	fileAt, sockAt := recordHead, recordHead+align(l.file)
	body := []linux.BPFInsn{
		in(opMove, 6, 1, 0, 0),
		in(opLoad64, 7, 6, ctxFile, 0),
		in(opJumpEq, 7, 0, 0, 0), // to the end
		in(opMove, 1, 7, 0, 0),
		in(opCall, 0, 0, 0, sockFromFile),
		in(opJumpEq, 0, 0, 0, 0),
		in(opLoad64, 8, 0, l.sk, 0),
		in(opJumpEq, 8, 0, 0, 0),
		in(opImm64, 9, pseudoMapValue, 0, scratch), in(0, 0, 0, 0, 0),
		in(opLoad32, 1, 6, ctxFD, 0),
		in(opStore32, 9, 1, 0, 0),
		// probe_read_kernel(record.file, size, file)
		in(opMove, 1, 9, 0, 0), in(opAddImm, 1, 0, 0, fileAt),
		in(opMoveImm, 2, 0, 0, l.file),
		in(opMove, 3, 7, 0, 0),
		in(opCall, 0, 0, 0, probeReadKernel),
		in(opStore64, 9, 0, 8, 0),
		// probe_read_kernel(record.sock, size, sock)
		in(opMove, 1, 9, 0, 0), in(opAddImm, 1, 0, 0, sockAt),
		in(opMoveImm, 2, 0, 0, l.sock),
		in(opMove, 3, 8, 0, 0),
		in(opCall, 0, 0, 0, probeReadKernel),
		in(opLoad64, 1, 9, 8, 0),
		in(opOr, 0, 1, 0, 0),
		in(opStore64, 9, 0, 8, 0),
		// seq_write(meta->seq, record, size)
		in(opLoad64, 1, 6, ctxMeta, 0),
		in(opLoad64, 1, 1, metaSeq, 0),
		in(opMove, 2, 9, 0, 0),
		in(opMoveImm, 3, 0, 0, sockAt+align(l.sock)),
		in(opCall, 0, 0, 0, seqWrite),
		in(opMoveImm, 0, 0, 0, 0),
		in(opExit, 0, 0, 0, 0),
	}
	end := len(body) - 2
	for i := range body {
		if body[i].Code == opJumpEq {
			body[i].Off = int16(end - i - 1)
		}
	}
	return body
}

// in is one instruction.
func in(code uint8, dst, src uint8, off, imm int) linux.BPFInsn {
	return linux.BPFInsn{Code: code, Regs: dst | src<<4, Off: int16(off), Imm: int32(imm)}
}
