//go:build arm64

package arch

import "golang.org/x/sys/unix"

// Regs are the general registers as ptrace(2) gives them.
type Regs = unix.PtraceRegs

// Supported returns ErrUnsupported: this CPU has no batch loop yet.
func Supported() error { return ErrUnsupported }

// What follows keeps the rest compiling; Supported stops it from being used.
const (
	TaskSize    = 1 << 48
	StubSyscall = 0
	ELFMachine  = 183
	CodeSyscall = 0
	BootSize    = 256
)

// SyscallInsn is the system-call instruction (svc #0).
var SyscallInsn = [...]byte{0x01, 0x00, 0x00, 0xd4}

func Code() []byte                                                       { return nil }
func StubCode() []byte                                                   { return nil }
func WatchCode(line byte, mask, path, argv, envp uint32) []byte          { return nil }
func ExitCode(status uint8) []byte                                       { return nil }
func StartBatch(r *Regs, base, entries, count, control uint64)           {}
func BatchStopped(r *Regs, base uint64) (left uint64, ok bool)           { return 0, false }
func SetCall(r *Regs, insn, nr uint64, args [6]uint64)                   {}
func Return(r *Regs) int64                                               { return 0 }
func IP(r *Regs) uint64                                                  { return r.Pc }
func SP(r *Regs) uint64                                                  { return r.Sp }
func SetIP(r *Regs, ip uint64)                                           { r.Pc = ip }
func Native(r *Regs) bool                                                { return false }
func InSyscall(r *Regs) (nr uint64, ok bool)                             { return 0, false }
func FoldRestart(r *Regs, block bool)                                    {}
func NeedsBlock(r *Regs) bool                                            { return false }
func CallArgs(r *Regs) [6]uint64                                         { return [6]uint64{} }
func AfterSyscall(r *Regs) uint64                                        { return r.Pc }
func Interrupted(r *Regs) bool                                           { return false }
func Rewind(r *Regs)                                                     {}
func Undecided(r *Regs)                                                  {}
func SigFrameSize(xstate []byte) int                                     { return 0 }
func SigFrame(buf []byte, at uint64, r *Regs, m uint64, x []byte) uint64 { return 0 }
func FrameLeadsTo(stack []byte, start, end, mask uint64) bool            { return false }
func Boot(tgid, tid, signal uint64, r *Regs, mask uint64) []byte         { return nil }
func BootStopped(r *Regs, base uint64) (result int64, ok bool)           { return 0, false }
func BootOf(b []byte, tid uint64) bool                                   { return false }

// GrowHeap does nothing yet.
func GrowHeap() {}
