package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/internal/undo"
)

// The call that maps an arena has to run somewhere before there is one. The
// last page of the vdso has room: what is behind the end of its ELF image is
// zero and nobody's. The kernel lets a tracer write there (the page becomes a
// copy of the task's own), and the zeros are put back after the call.

// ErrOnItsWay says that a thread has lost its tracer a moment ago and has not
// come back to its own code yet.
var ErrOnItsWay = errors.New("it is on its way out of a checkpoint that was killed a moment ago; try again (a stopped process needs SIGCONT before)")

// UseVdso looks at the vdso of the thread's task, which is at [start,end). It
// returns the address of a system-call instruction, and remembers the room in
// it for the calls of MapArena and Unmap, if there is any. all are the threads
// of the task: ErrOnItsWay if one of them is in that room, or comes back to it.
func UseVdso(t *Thread, start, end Addr, all ...*Thread) (Addr, error) {
	text, insn, err := findSyscall(t.mm(), start, end)
	if err != nil {
		return 0, err
	}
	used, ok := imageEnd(text)
	if !ok {
		return insn, nil
	}
	for _, o := range all {
		ip := Addr(arch.IP(&o.Regs))
		if ip >= start+Addr(used) && ip < end || hasBoot(text, used, o) && o.LeadsTo(start+Addr(used), end) {
			return 0, fmt.Errorf("thread %d: %w", o.TID, ErrOnItsWay)
		}
	}
	if at, ok := room(text, used, uint64(t.TID)); ok {
		t.boot = start + Addr(at)
	}
	return insn, nil
}

// LeadsTo tells whether a thread is at [start,end), or in the handler of a signal that
// came when it was there, and so will be. A call of ours ends with a signal of which
// there may be a handler (a Go program has them for all), and then has it if the tracer
// has died.
func (t *Thread) LeadsTo(start, end Addr) bool {
	if ip := Addr(arch.IP(&t.Regs)); ip >= start && ip < end {
		return true
	}
	if t.Mask == 0 {
		return false // it is in no handler: one of ours blocks all, others' their own signal
	}
	const most = 64 << 10 // of what handlers need of a stack
	stack := make([]byte, most)
	n, _ := Read(t.mm(), Addr(arch.SP(&t.Regs))&^7, stack) // where is no stack is no frame
	return arch.FrameLeadsTo(stack[:max(n, 0)], uint64(start), uint64(end), t.Mask|neverBlocked)
}

// neverBlocked are signals that no mask of the kernel's has, but one that we set may.
const neverBlocked = 1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1)

// rooms are the places for arch.Boot behind the end of a vdso's image.
func rooms(text []byte, used int) iter.Seq[int] {
	const align = 16
	return func(yield func(int) bool) {
		for at := (used + align - 1) &^ (align - 1); at+arch.BootSize <= len(text); at += (arch.BootSize + align - 1) &^ (align - 1) {
			// Within one page, so that it is written as a whole.
			if at/arch.PageSize == (at+arch.BootSize-1)/arch.PageSize && !yield(at) {
				return
			}
		}
	}
}

// room finds a place for arch.Boot: one that is empty, or that still has what a killed
// tracer of this very thread left, which must not be on its way (UseVdso). Others'
// places are not taken: a task that shares its memory with this one may be about to
// run there.
func room(text []byte, used int, tid uint64) (at int, ok bool) {
	zero := make([]byte, arch.BootSize)
	for at := range rooms(text, used) {
		if b := text[at : at+arch.BootSize]; bytes.Equal(b, zero) || arch.BootOf(b, tid) {
			return at, true
		}
	}
	return 0, false
}

// hasBoot tells whether a killed tracer of the thread has left something.
func hasBoot(text []byte, used int, t *Thread) bool {
	for at := range rooms(text, used) {
		if arch.BootOf(text[at:at+arch.BootSize], uint64(t.TID)) {
			return true
		}
	}
	return false
}

// Where a 64-bit ELF header says where its tables are, elf(5).
const (
	elfHeader  = 64
	elfPhoff   = 32
	elfShoff   = 40
	elfPhnum   = 56
	elfShnum   = 60
	phdrSize   = 56
	phdrOffset = 8
	phdrSizes  = 32 // p_filesz, p_memsz
	shdrSize   = 64
	shdrOffset = 24 // sh_offset, sh_size
)

// imageEnd returns where the ELF image in text ends, tables included; not ok
// if it makes no sense.
func imageEnd(text []byte) (end int, ok bool) {
	le := binary.LittleEndian
	if len(text) < elfHeader || string(text[:5]) != "\x7fELF\x02" || le.Uint16(text[elfPhnum-2:]) != phdrSize || le.Uint16(text[elfShnum-2:]) != shdrSize {
		return 0, false
	}
	end, ok = elfHeader, true
	reach := func(at, size uint64) {
		if n := uint64(len(text)); at > n || size > n-at {
			ok = false
		} else {
			end = max(end, int(at+size))
		}
	}
	ph, sh := le.Uint64(text[elfPhoff:]), le.Uint64(text[elfShoff:])
	phn, shn := uint64(le.Uint16(text[elfPhnum:])), uint64(le.Uint16(text[elfShnum:]))
	if reach(ph, phn*phdrSize); ok {
		reach(sh, shn*shdrSize)
	}
	for i := uint64(0); ok && i < phn; i++ {
		p := text[ph+i*phdrSize:]
		reach(le.Uint64(p[phdrOffset:]), max(le.Uint64(p[phdrSizes:]), le.Uint64(p[phdrSizes+8:])))
	}
	for i := uint64(0); ok && i < shn; i++ {
		s := text[sh+i*shdrSize:]
		reach(le.Uint64(s[shdrOffset:]), le.Uint64(s[shdrOffset+8:]))
	}
	return end, ok
}

// startBoot writes arch.Boot into its room. False if the kernel does not let
// us (proc_mem.force_override of its command line): then nothing has changed.
func (t *Thread) startBoot() bool {
	own := t.Regs
	arch.FoldRestart(&own, true)
	code := arch.Boot(uint64(t.Tgid), uint64(t.TID), uint64(t.signal), &own, t.Mask)
	if writeText(t.mm(), t.boot, code) != nil {
		t.boot = 0
		return false
	}
	t.booted = true
	return true
}

// finishBoot waits for the end of arch.Boot, restores the thread, and only
// then takes away what it would have restored itself by.
func (t *Thread) finishBoot(nr uintptr) (int64, error) {
	v, err := t.waitBoot()
	if err != nil {
		return 0, fmt.Errorf("system call %d: %w", nr, err)
	}
	if err := t.Restore(); err != nil {
		return 0, err
	}
	t.booted = false
	if err := undo.Again(func() error { return writeText(t.mm(), t.boot, make([]byte, arch.BootSize)) }); err != nil {
		return 0, err
	}
	return result(v)
}

func (t *Thread) waitBoot() (int64, error) {
	for {
		s, err := t.wait()
		switch {
		case err != nil:
			return 0, err
		case s.Exited():
			return 0, fmt.Errorf("thread %d: %v: %w", t.TID, s, tracee.ErrGone)
		case s.Event() == 0 && s.Signal() == t.signal:
			r, err := tracee.Regs(t.TID)
			if err != nil {
				return 0, err
			}
			if v, ok := arch.BootStopped(&r, uint64(t.boot)); ok {
				return v, nil
			}
		case !t.foreign(s):
			return 0, fmt.Errorf("thread %d: unexpected %v", t.TID, s)
		}
		if err := t.cont(); err != nil {
			return 0, err
		}
	}
}

// writeText writes where a task itself may not, see proc_pid_mem(5).
func writeText(pid proc.PID, at Addr, b []byte) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/mem", pid), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("task %d: open its memory: %w", pid, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is buffered
	n, err := unix.Pwrite(fd, b, int64(at))
	if err == nil && n < len(b) {
		err = unix.EFAULT
	}
	if err != nil {
		return fmt.Errorf("task %d: write %d bytes of code at %#x: %w", pid, len(b), at, err)
	}
	return nil
}
