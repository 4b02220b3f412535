package bpf

import "glis.dev/glis/internal/linux"

// Insn is one instruction.
type Insn = linux.BPFInsn

// Opcodes, see include/uapi/linux/bpf.h.
const (
	Load64  = 0x79 // dst = *(u64 *)(src + off)
	Load32  = 0x61
	Load8   = 0x71
	Store64 = 0x7b // *(u64 *)(dst + off) = src
	Store32 = 0x63
	Store8  = 0x73
	Move    = 0xbf // dst = src
	MoveImm = 0xb7
	AddImm  = 0x07
	Add     = 0x0f
	Left    = 0x67 // dst <<= imm
	Right   = 0x77 // dst >>= imm
	Or      = 0x4f
	JumpEq  = 0x15 // if dst == imm: pc += off
	JumpNe  = 0x55
	JumpNeR = 0x5d // if dst != src: pc += off
	JumpGt  = 0x25
	Call    = 0x85
	Exit    = 0x95
	Imm64   = 0x18 // two instructions

	PseudoMapFD    = 1 // in an Imm64's source register: a map
	PseudoMapValue = 2 // in an Imm64's source register: address of a map's value
	PseudoKfunc    = 2 // in a Call's source register: a function by its type (Linux 5.13)
)

// Helpers, see bpf-helpers(7).
const (
	MapLookupElem   = 1  // (map, key)
	Redirect        = 23 // (interface, flags)
	SkbLoadBytes    = 26 // (packet, offset, to, size)
	GetCurrentTask  = 35
	GetSocketCookie = 46  // (packet), Linux 4.12
	SkRelease       = 86  // (sock)
	SkcLookupTCP    = 99  // (packet, tuple, size, netns, flags)
	SkAssign        = 124 // (packet, sock, flags)
	CsumLevel       = 135 // (packet, how), Linux 5.8
	ProbeReadKernel = 113 // (to, size, from)
	DPath           = 147 // (path, to, size), Linux 5.10
	SeqWrite        = 127 // (seq, data, size)
	SkcToTCPSock    = 137 // (sock)
	SockFromFile    = 162 // (file)
	MapLookupPerCPU = 195 // (map, key, cpu), Linux 5.19
)

// What every iterator calls its program with begins with a pointer to struct
// bpf_iter_meta, and that with one to the seq_file to write to.
const (
	CtxMeta = 0
	MetaSeq = 0
)

// License is what the helpers demand: they are only for programs under the GPL,
// and these are free to be used under it.
const License = "Dual MIT/GPL"

// In is one instruction.
func In(code uint8, dst, src uint8, off, imm int) Insn {
	return Insn{Code: code, Regs: dst | src<<4, Off: int16(off), Imm: int32(imm)}
}

// Finish appends the end of a program, which returns 0, and makes all its jumps
// go there.
func Finish(body []Insn) []Insn {
	for i := range body {
		if body[i].Code == JumpEq || body[i].Code == JumpGt {
			body[i].Off = int16(len(body) - i - 1)
		}
	}
	return append(body, In(MoveImm, 0, 0, 0, 0), In(Exit, 0, 0, 0, 0))
}

// CopyInto reads memory into a record in a map, whose address is in r9:
// probe_read_kernel(record.to, size, from), where from is what puts its address
// into r3. It may use r4.
func CopyInto(to, size int, from ...Insn) []Insn {
	return append(append([]Insn{
		In(Move, 1, 9, 0, 0), In(AddImm, 1, 0, 0, to),
		In(MoveImm, 2, 0, 0, size),
	}, from...), In(Call, 0, 0, 0, ProbeReadKernel))
}
