// Package stub makes the process that restored ones are cloned from: one page
// of code at an address that is free in all of them, and nothing else.
package stub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/tracee"
)

// Size is the address space that the stub's code takes, in bytes.
const Size = arch.PageSize

const codeOffset = 0x100

// Options say how a stub is started.
type Options struct {
	At      remote.Addr // where its code goes
	Socket  int         // descriptor of ours that the stub gets as Socket below
	Sibling bool        // child of our parent instead of ours (CLONE_PARENT)
	// Suspend has seccomp filters do nothing as long as it is traced, and
	// those cloned from it (PTRACE_O_SUSPEND_SECCOMP).
	Suspend bool
}

// Socket is the number that Options.Socket has in the stub; it has no other.
const Socket = 0

// Start starts a stub and stops it. It dies with its tracer, and so does
// every process cloned from it, until those are let go. Call it on the
// tracer's thread.
func Start(o Options) (*remote.Thread, error) {
	exe, err := memfd(elf(uint64(o.At), arch.StubCode()), o.Socket)
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	defer unix.Close(exe)
	var flags uint64
	if o.Sibling {
		flags = linux.CLONE_PARENT
	}
	b, err := begin(exe, "glis", []int{o.Socket}, flags, func(*Birth) {})
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	if err := b.Wait(); err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	pid := b.PID
	t := &remote.Thread{Tgid: proc.PID(pid), TID: proc.TID(pid)}
	if err := seize(t, o.Suspend); err != nil {
		return nil, fmt.Errorf("stub: %w", errors.Join(err, discard(pid)))
	}
	return t, nil
}

func seize(t *remote.Thread, suspend bool) error {
	options := uintptr(linux.PTRACE_O_TRACESYSGOOD | linux.PTRACE_O_EXITKILL)
	if suspend {
		options |= linux.PTRACE_O_SUSPEND_SECCOMP
	}
	err := tracee.Seize(t.TID, options)
	if suspend && errors.Is(err, unix.EPERM) {
		return fmt.Errorf("the tree is under seccomp, and so is Glis, which can't suspend it then; run Glis outside of the container: %w", err)
	}
	if err != nil {
		return err
	}
	if err := tracee.Interrupt(t.TID); err != nil {
		return err
	}
	if _, err := tracee.WaitTrap(t.TID); err != nil {
		return err
	}
	if t.Regs, err = tracee.Regs(t.TID); err != nil {
		return err
	}
	// It came with everything blocked.
	if t.Mask, err = ownMask(); err != nil {
		return err
	}
	if err := tracee.SetSigmask(t.TID, t.Mask); err != nil {
		return err
	}
	t.SetSignal(unix.SIGURG)
	return nil
}

// ownMask returns which signals this thread blocks.
func ownMask() (uint64, error) {
	var set unix.Sigset_t
	err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &set)
	return set.Val[0], err
}

// discard ends a stub that nobody took charge of. If it had ended by itself it
// tells how: all that seize says of it is that the kernel does not permit it.
func discard(pid int) error {
	var ws unix.WaitStatus
	n, err := unix.Wait4(pid, &ws, unix.WNOHANG|unix.WALL, nil)
	if err == nil && n == pid && (ws.Exited() || ws.Signaled()) {
		return fmt.Errorf("it had ended before (wait status %#x)", uint32(ws))
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	for { // a sibling is waited for by our parent
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.EINTR {
			return nil
		}
	}
}

// Syscall returns the address of the system-call instruction of a stub.
func Syscall(at remote.Addr) remote.Addr { return at + codeOffset + arch.StubSyscall }

// memfd returns a descriptor of an executable file in memory. Its number is
// above those of files, of which the last one is given, and those that they get.
func memfd(content []byte, last int) (int, error) {
	n, err := unix.MemfdCreate("glis", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		n, err = unix.MemfdCreate("glis", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(n), "glis")
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return -1, err
	}
	n, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, max(last, 2)+1)
	return n, tooMany(err)
}

// tooMany says what can be done about a number that is too high for a descriptor.
func tooMany(err error) error {
	if err == unix.EMFILE || err == unix.EINVAL || err == unix.EBADF {
		return fmt.Errorf("too many descriptors for RLIMIT_NOFILE (ulimit -n), raise it: %w", err)
	}
	return err
}

// elf returns a static executable of one page with this code,
// see elf(5).
func elf(base uint64, code []byte) []byte {
	b := make([]byte, arch.PageSize)
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2) // ET_EXEC
	le.PutUint16(b[18:], arch.ELFMachine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], base+codeOffset) // e_entry
	le.PutUint64(b[32:], 64)              // e_phoff
	le.PutUint16(b[52:], 64)              // e_ehsize
	le.PutUint16(b[54:], 56)              // e_phentsize
	le.PutUint16(b[56:], 2)               // e_phnum
	segment(b[64:], 1, 5, base, arch.PageSize)
	segment(b[120:], 0x6474e551, 6, 0, 0) // PT_GNU_STACK, not executable
	copy(b[codeOffset:], code)
	return b
}

func segment(b []byte, typ, flags uint32, at, size uint64) {
	le := binary.LittleEndian
	le.PutUint32(b, typ)
	le.PutUint32(b[4:], flags)
	le.PutUint64(b[16:], at)
	le.PutUint64(b[24:], at)
	le.PutUint64(b[32:], size)
	le.PutUint64(b[40:], size)
	le.PutUint64(b[48:], arch.PageSize)
}
