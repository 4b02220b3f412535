// Package taskmem tells by a BPF iterator (Linux 6.1) whether all threads of a
// process still have in common what only the kernel's own memory shows at once.
// /proc and kcmp(2) answer for one thread and one thing at a time.
package taskmem

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// ErrUnavailable says that this kernel or the engine's privileges don't allow
// it (CAP_BPF, CAP_PERFMON, CONFIG_DEBUG_INFO_BTF, no lockdown).
var ErrUnavailable = errors.New("the kernel's memory of threads can't be read")

// Reader is the loaded program. Together may be called by several goroutines.
type Reader struct{ program int }

// Open loads the program, which takes some 3 ms, most of it to look through the
// kernel's types: before anything is frozen. Errors are ErrUnavailable.
func Open() (*Reader, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l, err := findLayout(x)
	if err = errors.Join(err, x.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	n, err := linux.BPFLoadIterator(program(l), bpf.License, l.function)
	if err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", ErrUnavailable, err)
	}
	return &Reader{n}, nil
}

// Close unloads the program. It does nothing for nil.
func (r *Reader) Close() error {
	if r == nil {
		return nil
	}
	return unix.Close(r.program)
}

// Together tells whether a process that stands still has just n threads, and
// all of them one table of descriptors, one set of directories with one umask,
// one set of cgroups,
// one set of namespaces, those for their children included, one session keyring
// and none for a thread alone, one login uid, and the same right to all I/O ports. False says only
// that it takes a closer look: threads with sets of their own may be in the same
// namespaces nevertheless. pidfd is of the process. r may be nil: false.
func (r *Reader) Together(pidfd, n int) (bool, error) {
	if r == nil {
		return false, nil
	}
	it, err := linux.BPFTaskIterator(r.program, pidfd)
	if err != nil {
		return false, fmt.Errorf("%w: bpf iterator over threads: %w", ErrUnavailable, err)
	}
	defer unix.Close(it) //nolint:errcheck // nothing was written
	b, err := read(it, n*recordSize)
	return err == nil && same(b, n), err
}

// read reads until the end, but no more than a little above size bytes.
func read(it, size int) ([]byte, error) {
	b := make([]byte, size+recordSize)
	have := 0
	for have < len(b) {
		n, err := unix.Read(it, b[have:])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read from a bpf iterator: %w", err)
		}
		if n == 0 {
			break
		}
		have += n
	}
	return b[:have], nil
}

// same tells whether these are n records, all like the first, with nothing that
// is missing: a thread that ends has lost it all.
func same(b []byte, n int) bool {
	if n == 0 || len(b) != n*recordSize {
		return false
	}
	first := [recordSize]byte(b)
	for at := 0; at < len(shared)*word; at += word {
		if binary.NativeEndian.Uint64(first[at:]) == 0 {
			return false
		}
	}
	if at := (len(shared) + keyringOfOne) * word; binary.NativeEndian.Uint64(first[at:]) != 0 {
		return false
	}
	for ; len(b) > 0; b = b[recordSize:] {
		if [recordSize]byte(b) != first {
			return false
		}
	}
	return true
}
