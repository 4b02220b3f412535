package remote

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
)

// A task may not have memory that is both writable and executable: after
// PR_SET_MDWE (Linux 6.3), or by a rule of a security module. Then its arena is
// mapped as executable memory that can't be written, of which all but the first
// page is made writable and no longer executable, which the kernel allows. The code
// comes into that page as a debugger's does, see proc_pid_mem(5).

// mapApart maps such an arena, of the size and at the address that the other one
// was to have, by injected calls.
func (a *Arena) mapApart(t *Thread, insn Addr) error {
	v, err := t.Inject(insn, unix.SYS_MMAP, uint64(a.base), a.size, unix.PROT_READ|unix.PROT_EXEC, mapFlags(a.base), ^uint64(0), 0)
	switch {
	case err != nil && v < 0:
		return fmt.Errorf("%w: task %d: %s for Glis's own %d KiB: %w", ErrNotMapped, t.Tgid, whyNoMemory(err), a.size>>10, err)
	case err != nil:
		return fmt.Errorf("task %d: map Glis's own memory: %w", t.Tgid, err)
	}
	a.base, a.apart = Addr(v), true
	_, err = t.Inject(insn, unix.SYS_MPROTECT, uint64(a.base)+arch.PageSize, a.size-arch.PageSize, unix.PROT_READ|unix.PROT_WRITE)
	if err == nil {
		err = writeText(a.pid, a.base, arch.Code())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("task %d: Glis's own memory, code and data apart: %w", t.Tgid, err), a.Unmap(t, insn))
	}
	a.Reset()
	return nil
}

// begin is where data begins in an arena.
func (a *Arena) begin() uint64 {
	if a.apart {
		return arch.PageSize
	}
	return codeSpace
}
