// Package filemem reads what open files of a process are, all in a few system
// calls, by a BPF iterator (Linux 6.1). /proc takes four calls for each.
package filemem

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// ErrUnavailable says that this kernel, or the engine's privileges, don't allow
// the reading: CAP_BPF, CAP_PERFMON, CONFIG_DEBUG_INFO_BTF, no lockdown.
var ErrUnavailable = errors.New("the kernel's memory of files can't be read")

// Reader is the loaded program. It is not for use by several goroutines at
// once.
type Reader struct {
	layout  layout
	program int
	scratch int // map
}

// File is one file that a process has as a descriptor.
type File struct {
	FD   int32
	Path string // as readlink(2) tells it of /proc/PID/fd/FD
	Dev  uint64 // of the file system; what stat(2) tells may be another one (btrfs, overlayfs)
	Ino  uint64
	Mode uint16
	// Flags are O_*, with O_CLOEXEC if the descriptor is closed on exec.
	Flags uint32
	Pos   int64
	// Locked tells that there is, or was, a file lock on it, or a lease.
	Locked bool
	// Unowned tells that no signals were ever asked for (F_SETOWN, F_SETSIG).
	// Before Linux 6.12 it is never known.
	Unowned bool
}

// Open loads the program: some 5 ms, most of it reading type information.
func Open() (*Reader, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l, err := findLayout(x)
	if err = errors.Join(err, x.Close()); err != nil {
		return nil, err
	}
	r := &Reader{layout: *l, program: -1, scratch: -1}
	if r.scratch, err = linux.BPFArray(l.pathAt() + maxPath); err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_MAP_CREATE): %w", ErrUnavailable, err)
	}
	if r.program, err = linux.BPFLoadIterator(program(l, r.scratch), bpf.License, l.function); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", ErrUnavailable, err), r.Close())
	}
	return r, nil
}

// Close unloads the program. It does nothing for nil.
func (r *Reader) Close() error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, n := range []*int{&r.program, &r.scratch} {
		if *n >= 0 {
			errs = append(errs, unix.Close(*n))
			*n = -1
		}
	}
	return errors.Join(errs...)
}

// Each calls fn with every file of the process behind a pidfd that has a path,
// which only means something while the process stands still. What fn is given is valid
// until it returns; an error of it ends it.
func (r *Reader) Each(pidfd int, fn func(*File) error) error {
	it, err := linux.BPFTaskIterator(r.program, pidfd)
	if err != nil {
		return fmt.Errorf("%w: bpf iterator over a process's files: %w", ErrUnavailable, err)
	}
	defer unix.Close(it) //nolint:errcheck // nothing was written
	last := int32(-1)    // they come in order: Linux 6.1 begins anew where there are threads
	once := func(f *File) error {
		if f.FD <= last {
			return nil
		}
		last = f.FD
		return fn(f)
	}
	return bpf.Drain(it, func(b []byte) (int, error) { return r.records(b, once) })
}

// records hands on the whole records in b and returns how many bytes are left.
func (r *Reader) records(b []byte, fn func(*File) error) (left int, err error) {
	ne, path := binary.NativeEndian, r.layout.pathAt()
	var f File // one for all: there may be very many
	for len(b) >= path {
		size := ne.Uint64(b[recordLength:])
		if size == 0 || size > maxPath {
			return 0, fmt.Errorf("%w: a path of %d bytes", ErrUnavailable, size)
		}
		if len(b) < path+int(size) {
			break
		}
		file := b[recordHead : recordHead+r.layout.file]
		f = File{
			FD: int32(ne.Uint32(b)), Path: string(b[path : path+int(size)-1]), Ino: ne.Uint64(b[recordInode:]), Mode: ne.Uint16(b[recordMode:]),
			Locked: ne.Uint64(b[recordLocks:]) != 0, Pos: int64(ne.Uint64(file[r.layout.pos:])),
		}
		dev := ne.Uint32(b[recordDev:])
		f.Dev = unix.Mkdev(dev>>20, dev&(1<<20-1))
		f.Flags = ne.Uint32(file[r.layout.flags:]) &^ unix.O_CLOEXEC
		if ne.Uint64(b[recordCloexec:])>>(uint(f.FD)%64)&1 != 0 {
			f.Flags |= unix.O_CLOEXEC
		}
		f.Unowned = r.layout.owner >= 0 && ne.Uint64(file[r.layout.owner:]) == 0
		if err := fn(&f); err != nil {
			return 0, err
		}
		b = b[path+int(size):]
	}
	return len(b), nil
}
