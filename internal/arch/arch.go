// Package arch is what differs from CPU to CPU: registers, machine code that
// runs in a task, the frame that rt_sigreturn(2) reads, and how the registers
// look in images. The rest of Glis sees only the names below; each
// architecture is a set of files with its suffix.
package arch

import "errors"

// ErrUnsupported says that Glis does not know this CPU yet.
var ErrUnsupported = errors.New("this CPU architecture is not supported yet (amd64 is)")

// PageSize is the size of a page in bytes.
const PageSize = 4096

// Entry is one system call of a batch, as the batch loop reads and writes it
// in the task's memory. Its layout is part of the machine code.
type Entry struct {
	Nr      uint64
	Args    [6]uint64
	Ret     uint64 // written by the loop
	Forward uint64 // address where the result is copied to, or 0
	Flags   uint64 // EntryMayFail
}

const (
	// EntrySize is the size of Entry in bytes.
	EntrySize = 80
	// EntryArgs is the offset of Entry.Args.
	EntryArgs = 8
	// EntryRet is the offset of Entry.Ret.
	EntryRet = 56
	// EntryMayFail lets the batch go on when this call fails.
	EntryMayFail = 1
)

// Control is what the end of a batch reads: where to send the signal that
// stops the thread, and the frame to resume from should nobody be there to
// see that stop.
type Control struct {
	Tgid, Tid, Signal, FrameSP uint64
}

// ControlSize is the size of Control in bytes.
const ControlSize = 32
