package linux

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/sched.h; see clone(2) and clone3 there.
const (
	CLONE_VM             = 0x100
	CLONE_FS             = 0x200
	CLONE_FILES          = 0x400
	CLONE_SIGHAND        = 0x800
	CLONE_PTRACE         = 0x2000
	CLONE_VFORK          = 0x4000
	CLONE_PARENT         = 0x8000
	CLONE_THREAD         = 0x10000
	CLONE_SYSVSEM        = 0x40000
	CLONE_CHILD_CLEARTID = 0x200000

	CloneArgsSize = 88 // CLONE_ARGS_SIZE_VER2, Linux 5.7
)

// CloneArgs is struct clone_args, up to its version 2 (Linux 5.7).
type CloneArgs struct {
	Flags, Pidfd, ChildTid, ParentTid, ExitSignal, Stack, StackSize, TLS, SetTid, SetTidSize, Cgroup uint64
}

// Bytes returns the structure as clone3(2) reads it.
func (c *CloneArgs) Bytes() []byte {
	b := make([]byte, 0, CloneArgsSize)
	for _, v := range [...]uint64{c.Flags, c.Pidfd, c.ChildTid, c.ParentTid, c.ExitSignal, c.Stack, c.StackSize, c.TLS, c.SetTid, c.SetTidSize, c.Cgroup} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// From include/uapi/linux/kcmp.h; see kcmp(2).
const (
	KCMP_FILE    = 0
	KCMP_VM      = 1
	KCMP_FILES   = 2
	KCMP_FS      = 3
	KCMP_SIGHAND = 4
	KCMP_IO      = 5
	KCMP_SYSVSEM = 6
)

// ComeFirst has the calling thread, which must be locked to its goroutine, run
// before all others that have no real-time priority (SCHED_FIFO, see sched(7)), and
// returns what takes that back. It is for microseconds in which somebody waits.
// Without CAP_SYS_NICE, and for a thread that is special already, it does nothing.
func ComeFirst() (back func()) {
	old, err := unix.SchedGetAttr(0, 0)
	if err != nil || old.Policy != unix.SCHED_NORMAL {
		return func() {}
	}
	first := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if unix.SchedSetAttr(0, first, 0) != nil {
		return func() {}
	}
	return func() { _ = unix.SchedSetAttr(0, old, 0) } // less is always allowed
}
