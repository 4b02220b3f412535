package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/tracee"
)

// Arena is memory that we mapped in a process: the batch loop, what batches
// read and what they write. It is private to the process, so nothing but one
// mapping has to be taken back, and it needs no right that the task lacks.
type Arena struct {
	pid   proc.PID
	base  Addr // before it is mapped: where it is wanted, or 0
	size  uint64
	top   uint64 // first free byte
	gen   int    // counts resets
	apart bool   // code and data are in different pages, see mapApart
}

// ErrNotMapped says that a task has no arena, for sure.
var ErrNotMapped = errors.New("no memory in the task")

// ErrArenaFull says that a batch has outgrown its arena.
var ErrArenaFull = errors.New("too much for one batch")

const codeSpace = 256

// MapArena maps an arena of size bytes in the thread's process with one
// injected mmap(2), at the address at if that is not 0.
func MapArena(t *Thread, insn Addr, at Addr, size uint64) (*Arena, error) {
	a, err := StartArena(t, insn, at, size)
	if err != nil {
		return nil, err
	}
	return a, a.FinishMap(t, insn)
}

// StartArena begins MapArena and does not wait; FinishMap must follow. So
// several processes can do it at the same time.
func StartArena(t *Thread, insn Addr, at Addr, size uint64) (*Arena, error) {
	a := PlaceArena(t, at, size)
	return a, a.StartMap(t, insn)
}

// PlaceArena says where an arena is to be. StartMap begins to map it there.
func PlaceArena(t *Thread, at Addr, size uint64) *Arena {
	return &Arena{pid: t.mm(), base: at, size: (size + arch.PageSize - 1) &^ (arch.PageSize - 1)}
}

// StartMap begins to map an arena that is not mapped, or not any more; FinishMap must
// follow.
func (a *Arena) StartMap(t *Thread, insn Addr) error {
	a.apart = false
	args := []uint64{uint64(a.base), a.size, unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC, mapFlags(a.base), ^uint64(0), 0}
	return t.startInject(insn, unix.SYS_MMAP, args)
}

func mapFlags(at Addr) uint64 {
	flags := uint64(unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE)
	if at != 0 {
		flags |= unix.MAP_FIXED_NOREPLACE
	}
	return flags
}

// FinishMap waits for what StartArena began.
func (a *Arena) FinishMap(t *Thread, insn Addr) error {
	v, err := t.finishInject(unix.SYS_MMAP)
	switch {
	case v < 0 && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)):
		return a.mapApart(t, insn)
	case err != nil && v < 0: // the kernel's answer to mmap(2)
		return fmt.Errorf("%w: task %d: %s for Glis's own %d KiB: %w", ErrNotMapped, t.Tgid, whyNoMemory(err), a.size>>10, err)
	case err != nil:
		return fmt.Errorf("task %d: map Glis's own memory: %w", t.Tgid, err)
	}
	a.base = Addr(v)
	if err := Write(a.pid, a.base, arch.Code()); err != nil {
		return errors.Join(err, a.Unmap(t, insn))
	}
	a.Reset()
	return nil
}

// whyNoMemory says what is likely to be in the way of an arena.
func whyNoMemory(err error) string {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "it may have no memory of its own that is executable (a rule of a security module, as execmem of SELinux), so none"
	case errors.Is(err, unix.ENOMEM):
		return "a limit of its memory (RLIMIT_AS or RLIMIT_DATA, prlimit(1)) leaves no room"
	}
	return "no memory"
}

// ArenaAt is an arena that somebody else has mapped in a process and that is
// only to be unmapped.
func ArenaAt(pid proc.PID, base Addr, size uint64) *Arena {
	return &Arena{pid: pid, base: base, size: size}
}

// Base and Size tell where the arena is.
func (a *Arena) Base() Addr { return a.base }

// Size is the arena's size in bytes.
func (a *Arena) Size() uint64 { return a.size }

// Inherit returns the same arena as a forked child of its process has it:
// same place and code, other memory.
func (a *Arena) Inherit(child proc.PID) *Arena {
	c := &Arena{pid: child, base: a.base, size: a.size, apart: a.apart}
	c.Reset()
	return c
}

// Syscall returns the address of a system-call instruction in the arena.
func (a *Arena) Syscall() Addr { return a.base + arch.CodeSyscall }

// Reset makes all of the arena free for new batches. No batch may be running.
func (a *Arena) Reset() { a.top, a.gen = a.begin(), a.gen+1 }

// Room is how many bytes are free for new batches.
func (a *Arena) Room() uint64 { return a.size - a.top }

// Top is where the next batch begins, and Rewind says so: what was built from there on
// has run, and is asked for nothing any more. Unlike Reset it may be called while a batch
// runs that is elsewhere.
func (a *Arena) Top() uint64 { return a.top }

// Rewind undoes what has happened to Top since it was top, or later.
func (a *Arena) Rewind(top uint64) { a.top = top }

// Reserve takes n bytes, aligned to 16, that batches may have something written to. What
// is there is not known. No batch may be under way that is not sealed.
func (a *Arena) Reserve(n uint64) Addr {
	at := (a.top + 15) &^ 15
	a.top = at + n
	return a.base + Addr(at)
}

// Unmap takes the arena away by an injected munmap(2). The thread must not
// use it any more; insn must be outside of it.
func (a *Arena) Unmap(t *Thread, insn Addr) error {
	if err := a.StartUnmap(t, insn); err != nil {
		return err
	}
	return a.FinishUnmap(t)
}

// StartUnmap begins Unmap and does not wait; FinishUnmap must follow. So
// several processes can do it at the same time.
func (a *Arena) StartUnmap(t *Thread, insn Addr) error {
	return t.startInject(insn, unix.SYS_MUNMAP, []uint64{uint64(a.base), a.size})
}

// FinishUnmap waits for what StartUnmap began.
func (a *Arena) FinishUnmap(t *Thread) error {
	if _, err := t.finishInject(unix.SYS_MUNMAP); err != nil {
		return fmt.Errorf("task %d: take Glis's memory away: %w", a.pid, err)
	}
	return nil
}

// Batch is a list of system calls for one thread, run in one stop. Build it,
// Run it, then ask the Calls for their results. One batch of an arena is
// built at a time; any number may run.
type Batch struct {
	arena   *Arena
	thread  *Thread
	control Addr // of the thread's arch.Control
	at      Addr // of data
	data    []byte
	entries []arch.Entry // these three until it has run
	feeds   []feed
	names   []string
	reasons map[int]func(error) error    // see Call.Explain
	retry   func(i int, err error) error // see Retry; may be nil
	calls   int                          // how many there were, once it has run
	fetched bool
	sealed  bool
	first   Addr // of the entries, once sealed
	left    uint64
	memory  *Memory // nil: its own
}

// Memory is what one batch after the other is built in. The zero value is ready.
type Memory struct {
	data    []byte
	entries []arch.Entry
	names   []string
}

// Call is one system call of a batch.
type Call struct {
	b *Batch
	i int
}

// Batch begins a batch for a thread of the arena's process.
func (a *Arena) Batch(t *Thread) *Batch {
	b := &Batch{arena: a, thread: t, at: a.base + Addr((a.top+15)&^15)}
	b.begin()
	return b
}

// BatchIn is Batch that is built in memory which no other batch has that runs, or that
// is asked for something.
func (a *Arena) BatchIn(t *Thread, m *Memory) *Batch {
	b := &Batch{arena: a, thread: t, at: a.base + Addr((a.top+15)&^15), memory: m, data: m.data[:0], entries: m.entries[:0], names: m.names[:0]}
	b.begin()
	return b
}

func (b *Batch) begin() {
	t, a := b.thread, b.arena
	if b.control = t.control; t.control == 0 || t.arena != a || t.gen != a.gen {
		b.control = b.layControl()
	}
}

// layControl lays down the thread's arch.Control, and the frame from which it
// resumes by itself should the tracer die.
func (b *Batch) layControl() Addr {
	t := b.thread
	var sp uint64
	if len(t.XState) > 0 {
		frame, buf := b.Alloc(arch.SigFrameSize(t.XState))
		r := t.Regs
		arch.FoldRestart(&r, true)
		sp = arch.SigFrame(buf, uint64(frame), &r, t.Mask, t.XState)
	}
	return b.U64(uint64(t.Tgid), uint64(t.TID), uint64(t.signal), sp)
}

// Alloc reserves n zeroed bytes, aligned to 16, for input or output. The
// slice is good for writing until the next Alloc.
func (b *Batch) Alloc(n int) (Addr, []byte) {
	off := (len(b.data) + 15) &^ 15
	b.data = append(b.data, make([]byte, off+n-len(b.data))...)
	return b.at + Addr(off), b.data[off : off+n : off+n]
}

// Bytes puts data into the arena and returns where.
func (b *Batch) Bytes(data []byte) Addr {
	at, buf := b.Alloc(len(data))
	copy(buf, data)
	return at
}

// String puts a string with its terminating NUL into the arena.
func (b *Batch) String(s string) Addr {
	at, buf := b.Alloc(len(s) + 1)
	copy(buf, s)
	return at
}

// U64 puts 64-bit words into the arena.
func (b *Batch) U64(v ...uint64) Addr {
	at, buf := b.Alloc(8 * len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint64(buf[8*i:], x)
	}
	return at
}

// Call adds a system call. If it fails, the batch ends there and Run returns
// an error that tells its name.
func (b *Batch) Call(name string, nr uintptr, args ...uint64) Call {
	e := arch.Entry{Nr: uint64(nr)}
	copy(e.Args[:], args)
	b.entries = append(b.entries, e)
	b.names = append(b.names, name)
	return Call{b, len(b.entries) - 1}
}

// Try adds a system call that may fail; see Call.Result.
func (b *Batch) Try(name string, nr uintptr, args ...uint64) Call {
	c := b.Call(name, nr, args...)
	b.entries[c.i].Flags |= arch.EntryMayFail
	return c
}

// feed is that the result of a call is an argument of a later one.
type feed struct{ from, to, arg int }

// Feed has the result of the call, when it comes, be argument i of a later call of
// the batch. One call feeds one other.
func (c Call) Feed(later Call, i int) { c.b.feeds = append(c.b.feeds, feed{c.i, later.i, i}) }

// Explain has f say what it means if the call fails, in place of its name and
// arguments. The task is there then, in its batch's last stop.
func (c Call) Explain(f func(error) error) {
	if c.b.reasons == nil {
		c.b.reasons = map[int]func(error) error{}
	}
	c.b.reasons[c.i] = f
}

// Retry has f asked when call i has failed: nil has it made again, and then what
// follows it, and an error that is not err says what that means. The task is there then,
// in its batch's last stop, and the calls before have been made.
func (b *Batch) Retry(f func(i int, err error) error) { b.retry = f }

// Expect makes room for n calls.
func (b *Batch) Expect(n int) {
	b.entries, b.names = slices.Grow(b.entries, n), slices.Grow(b.names, n)
	b.data = slices.Grow(b.data, n*arch.EntrySize)
}

// Size is how many bytes of the arena the batch takes so far.
func (b *Batch) Size() int { return len(b.data) + len(b.entries)*arch.EntrySize }

// Len returns the number of calls so far.
func (b *Batch) Len() int { return len(b.entries) }

// Run runs the batch and waits for its end.
func (b *Batch) Run() error {
	if err := b.Start(); err != nil {
		return err
	}
	return b.Wait()
}

// Start lets the thread run the batch.
func (b *Batch) Start() error {
	if err := b.Seal(); err != nil {
		return err
	}
	if err := b.enterAt(0); err != nil {
		return err
	}
	t := b.thread
	t.control, t.arena, t.gen = b.control, b.arena, b.arena.gen
	return t.cont()
}

// enterAt has the thread stand before call i.
func (b *Batch) enterAt(i int) error {
	r, from := b.thread.Regs, uint64(b.first)+uint64(i*arch.EntrySize)
	arch.StartBatch(&r, uint64(b.arena.base), from, uint64(len(b.entries)-i), uint64(b.control))
	return b.thread.enter(&r)
}

// Seal ends the building of the batch and writes it into the task, which needs
// no tracer. Start does it if nobody has.
func (b *Batch) Seal() error {
	if b.sealed {
		return nil
	}
	entries, buf := b.Alloc(len(b.entries) * arch.EntrySize)
	for _, f := range b.feeds {
		b.entries[f.from].Forward = uint64(entries) + uint64(f.to*arch.EntrySize+arch.EntryArgs+8*f.arg)
	}
	for i := range b.entries {
		putEntry(buf[i*arch.EntrySize:], &b.entries[i])
	}
	end := uint64(b.at-b.arena.base) + uint64(len(b.data))
	if end > b.arena.size {
		return fmt.Errorf("task %d: batch of %d calls: %w", b.arena.pid, len(b.entries), ErrArenaFull)
	}
	b.arena.top, b.sealed, b.first = end, true, entries
	if m := b.memory; m != nil {
		m.data, m.entries, m.names = b.data, b.entries, b.names
	}
	return Write(b.arena.pid, b.at, b.data)
}

func putEntry(buf []byte, e *arch.Entry) {
	le := binary.LittleEndian
	le.PutUint64(buf, e.Nr)
	for i, a := range e.Args {
		le.PutUint64(buf[arch.EntryArgs+8*i:], a)
	}
	le.PutUint64(buf[arch.EntryRet:], e.Ret)
	le.PutUint64(buf[arch.EntryRet+8:], e.Forward)
	le.PutUint64(buf[arch.EntryRet+16:], e.Flags)
}

// Wait waits for the end of a batch that was started. The error names the
// call that failed.
func (b *Batch) Wait() error {
	for {
		s, err := b.thread.wait()
		if err != nil {
			return err
		}
		if s.Exited() {
			return fmt.Errorf("thread %d: %v in a batch: %w", b.thread.TID, s, tracee.ErrGone)
		}
		if s.Event() == 0 && s.Signal() == b.thread.signal {
			done, err := b.atEnd()
			if done || err != nil {
				return err
			}
		} else if !b.thread.foreign(s) {
			return b.strange(s)
		}
		if err := b.thread.cont(); err != nil {
			return err
		}
	}
}

// strange describes a stop that must not happen.
func (b *Batch) strange(s tracee.Stop) error {
	r, err := tracee.Regs(b.thread.TID)
	if err != nil {
		return err
	}
	return fmt.Errorf("thread %d: %v in a batch of %d calls at %#x, ip %#x, sp %#x", b.thread.TID, s, len(b.entries), b.arena.base, arch.IP(&r), arch.SP(&r))
}

// atEnd tells whether the thread stands at the end of the batch loop, and how
// that came about.
func (b *Batch) atEnd() (bool, error) {
	r, err := tracee.Regs(b.thread.TID)
	if err != nil {
		return false, err
	}
	left, ok := arch.BatchStopped(&r, uint64(b.arena.base))
	if !ok {
		return false, nil
	}
	b.left = left
	if left == 0 {
		b.calls, b.entries, b.feeds, b.names = len(b.entries), nil, nil, nil
		return true, nil
	}
	c := Call{b, len(b.entries) - int(left)}
	_, err = c.Result()
	if b.retry != nil {
		why := b.retry(c.i, err)
		if why == nil {
			b.fetched = false
			return false, b.enterAt(c.i)
		}
		if why != err { //nolint:errorlint // the very one
			return true, fmt.Errorf("task %d: %w", b.thread.TID, why)
		}
	}
	if f := b.reasons[c.i]; f != nil {
		return true, fmt.Errorf("task %d: %w", b.thread.TID, f(err))
	}
	e := b.entries[c.i]
	return true, fmt.Errorf("task %d: %s(%#x): %w", b.thread.TID, b.names[c.i], e.Args, err)
}

// fetch reads back what the batch wrote.
func (b *Batch) fetch() error {
	if b.fetched {
		return nil
	}
	b.fetched = true
	return ReadFull(b.arena.pid, b.at, b.data)
}

// Output returns n bytes at an address of the batch (from Alloc) after it
// has run.
func (b *Batch) Output(at Addr, n int) ([]byte, error) {
	if err := b.fetch(); err != nil {
		return nil, err
	}
	off := int(at - b.at)
	return b.data[off : off+n : off+n], nil
}

// Result returns what the call returned, and its error if it failed.
func (c Call) Result() (int64, error) {
	if err := c.b.fetch(); err != nil {
		return 0, err
	}
	calls := max(c.b.calls, len(c.b.entries))
	off := len(c.b.data) - calls*arch.EntrySize + c.i*arch.EntrySize + arch.EntryRet
	v := int64(binary.LittleEndian.Uint64(c.b.data[off:]))
	if v < 0 && v > -4096 {
		return v, unix.Errno(-v)
	}
	return v, nil
}
