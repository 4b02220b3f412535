// Package taskmem tells by a BPF iterator (Linux 6.1) what the kernel has about all
// threads of a process: whether they still have in common what a thread may leave,
// which of them are alike in all that they could be asked for, and what each has for
// itself. /proc, ptrace(2), kcmp(2) and the threads themselves answer for one thread
// and one thing at a time.
package taskmem

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// ErrUnavailable says that this kernel or the engine's privileges don't allow
// it (CAP_BPF, CAP_PERFMON, CONFIG_DEBUG_INFO_BTF, no lockdown).
var ErrUnavailable = errors.New("the kernel's memory of threads can't be read")

// Reader is the loaded program. Look may be called by several goroutines.
type Reader struct {
	program int
	form    form
}

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
	code, offsets, size := program(l)
	n, err := linux.BPFLoadIterator(code, bpf.License, l.function)
	if err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", ErrUnavailable, err)
	}
	return &Reader{n, form{layout: l, at: offsets, size: size}}, nil
}

// Close unloads the program. It does nothing for nil.
func (r *Reader) Close() error {
	if r == nil {
		return nil
	}
	return unix.Close(r.program)
}

// Look returns what the kernel has about the threads of the process of a pidfd, if
// these are just n; nil if there are more or fewer. r may be nil: nil.
func (r *Reader) Look(pidfd, n int) (Picture, error) {
	if r == nil {
		return nil, nil
	}
	it, err := linux.BPFTaskIterator(r.program, pidfd)
	if err != nil {
		return nil, fmt.Errorf("%w: bpf iterator over threads: %w", ErrUnavailable, err)
	}
	defer unix.Close(it) //nolint:errcheck // nothing was written
	b, err := read(it, n*r.form.size, r.form.size)
	if err != nil || n == 0 || len(b) != n*r.form.size {
		return nil, err
	}
	return r.form.picture(b), nil
}

// read reads until the end, but no more than size bytes and one record.
func read(it, size, record int) ([]byte, error) {
	b := make([]byte, size+record)
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
