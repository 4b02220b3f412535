// Package vmamem reads the properties of mappings from the kernel's own memory
// by a BPF iterator (Linux 6.1), because smaps, the only file with them, counts
// all pages on the way. What the kernel's bits mean it learns from its own
// smaps: they differ between versions and configurations.
package vmamem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// ErrUnavailable says that the flags can't be told this way, so that it takes
// smaps. From Open: this kernel or the engine's privileges don't allow it
// (CAP_BPF, CAP_PERFMON, CONFIG_DEBUG_INFO_BTF, no lockdown).
var ErrUnavailable = errors.New("the kernel's memory of mappings can't be read")

// Reader is the loaded program. Its methods, but for Close, may be used by
// several goroutines.
type Reader struct {
	program int
	table   table

	mu       sync.Mutex
	prepared map[proc.PID]int // iterators that are not yet read
	used     []int            // those that were prepared and are read
}

// Open loads the program and learns the meaning of the flags, all of which takes
// some 5 ms (10 ms before Linux 6.16), most of it to look through the kernel's
// types. It is to be done before anything is frozen. Errors for want of support are ErrUnavailable.
func Open() (*Reader, error) {
	l, err := kernelLayout()
	if err != nil {
		return nil, err
	}
	r := &Reader{prepared: map[proc.PID]int{}}
	if r.program, err = linux.BPFLoadIterator(program(l), bpf.License, l.function); err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", ErrUnavailable, err)
	}
	t, err := r.learn()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.table = *t
	return r, nil
}

// Close unloads the program. A second Close does nothing.
func (r *Reader) Close() error {
	var errs []error
	for _, it := range r.used {
		errs = append(errs, unix.Close(it))
	}
	r.used = nil
	for pid, it := range r.prepared {
		errs = append(errs, unix.Close(it))
		delete(r.prepared, pid)
	}
	if r.program >= 0 {
		errs = append(errs, unix.Close(r.program))
		r.program = -1
	}
	return errors.Join(errs...)
}

// Prepare does beforehand what the next Flags of a process needs: it makes a
// descriptor, which is the Reader's until Close. Who has the number is looked up
// by Flags. It only saves time: after an error Flags tries by itself.
func (r *Reader) Prepare(pid proc.PID) error {
	it, err := r.open(pid)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.prepared[pid]; ok {
		return unix.Close(it)
	}
	r.prepared[pid] = it
	return nil
}

// Spare takes back what Prepare did and nobody has needed so far, since descriptors are
// short; it tells whether there was any. r may be nil.
func (r *Reader) Spare() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	some := len(r.prepared) > 0
	for pid, it := range r.prepared {
		unix.Close(it) //nolint:errcheck // nothing was written
		delete(r.prepared, pid)
	}
	return some
}

// iterator returns the prepared iterator, or a new one, and what is to be done
// with it in the end. One that was prepared is left to Close, which is not in a
// hurry.
func (r *Reader) iterator(pid proc.PID) (it int, done func(), err error) {
	r.mu.Lock()
	it, ok := r.prepared[pid]
	if ok {
		delete(r.prepared, pid)
		r.used = append(r.used, it)
	}
	r.mu.Unlock()
	if ok {
		return it, func() {}, nil
	}
	it, err = r.open(pid)
	return it, func() { unix.Close(it) }, err //nolint:errcheck // nothing was written
}

func (r *Reader) open(pid proc.PID) (int, error) {
	it, err := linux.BPFThreadIterator(r.program, int(pid))
	if err != nil {
		return -1, fmt.Errorf("%w: bpf iterator over the memory of process %d: %w", ErrUnavailable, pid, err)
	}
	return it, nil
}

// VMAs returns what Smaps of the same directory does, for a process that stands
// still: in the fast way if there is one. r may be nil.
func (r *Reader) VMAs(d *proc.Dir) ([]proc.VMA, error) {
	if r == nil {
		return Smaps(d)
	}
	vmas, err := d.Maps()
	if err != nil {
		return nil, err
	}
	// Smaps is the authority: it has the last word whatever went wrong.
	if r.flags(d.PID(), vmas, d.Ended) != nil {
		return Smaps(d)
	}
	return vmas, nil
}

// Flags fills in Flags, Unknown and Pkey of all the mappings of a process that
// stands still, as Maps returned them. ErrUnavailable means that smaps has to be
// read instead, because there is a flag that was not learnt, or not the same
// mappings; those at the start may be filled in then. It takes some 5 µs and
// 0.2 µs for each mapping.
func (r *Reader) Flags(pid proc.PID, vmas []proc.VMA) error {
	return r.flags(pid, vmas, func() error { return nil })
}

// flags is Flags that asks, for each mapping, whether there is still time.
func (r *Reader) flags(pid proc.PID, vmas []proc.VMA, ended func() error) error {
	left, err := r.table.gateFlags(vmas)
	if err != nil || len(left) == 0 {
		return err
	}
	it, done, err := r.iterator(pid)
	if err != nil {
		return err
	}
	defer done()
	f := filler{table: &r.table}
	err = each(it, len(left), func(m record) error {
		if v := &left[0]; v.Start != m.start || v.End != m.end {
			return fmt.Errorf("%x-%x has come, gone or changed", m.start, m.end)
		}
		err := f.fill(&left[0], m.bits)
		left = left[1:]
		return errors.Join(err, ended())
	})
	if err == nil && len(left) > 0 {
		err = errors.New("some are missing")
	}
	if err != nil {
		return fmt.Errorf("%w: mappings of process %d: %w", ErrUnavailable, pid, err)
	}
	nameOnFault(vmas)
	return nil
}

// perRead is how many records the kernel returns at most for one read(2).
const perRead = 32 << 10 / recordSize

var buffers = sync.Pool{New: func() any { return new([perRead * recordSize]byte) }}

// record is a mapping.
type record struct{ start, end, bits uint64 }

// each reads at most n mappings, ascending, from an iterator that was not yet
// read.
func each(it, n int, fn func(record) error) error {
	buf := buffers.Get().(*[perRead * recordSize]byte)
	defer buffers.Put(buf)
	have := 0
	for n > 0 {
		// To ask for no more than that keeps the kernel from looking for it.
		got, err := unix.Read(it, buf[have:min(len(buf), n*recordSize)])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read from a bpf iterator: %w", err)
		}
		if got == 0 {
			return nil
		}
		b := buf[:have+got]
		for ; len(b) >= recordSize; n-- {
			if err := fn(parseRecord(b)); err != nil {
				return err
			}
			b = b[recordSize:]
		}
		have = copy(buf[:], b)
	}
	return nil
}

func parseRecord(b []byte) record {
	le := binary.NativeEndian
	return record{le.Uint64(b), le.Uint64(b[word:]), le.Uint64(b[2*word:])}
}
