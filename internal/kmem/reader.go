// Package kmem reads the kernel's own memory by a BPF program (Linux 5.14), for
// what no system call shows: what is queued at sockets, mostly. Who reads walks
// from one structure to the next and knows where things are from the kernel's
// type information; an address that leads nowhere is an error, no more.
//
// Nothing holds a structure still while it is read: what is read must not
// change by itself.
package kmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// ErrUnavailable says that this kernel, or the engine's privileges, don't allow
// the reading: CAP_BPF, CAP_PERFMON, CONFIG_DEBUG_INFO_BTF, no lockdown.
var ErrUnavailable = errors.New("the kernel's memory can't be read")

// Addr is an address in the kernel.
type Addr uint64

// window is how much is read at once, in bytes.
const window = 64 << 10

// Reader is the loaded program. It is not for use by several goroutines at
// once.
type Reader struct {
	program int
	scratch int
	memory  []byte // is what the program reads into
	layout  map[string]Field
	pages   *pages
	files   Addr   // of this process's descriptors; 0: not asked yet
	cpus    []Addr // how far each CPU's own memory is away; nil: not asked yet
	ended   func() error
	read    uint // how often it has read
}

// Until has reading fail when ended returns an error, which is then returned: a queue may
// be long. It is asked now and then, see often.
func (r *Reader) Until(ended func() error) { r.ended = ended }

// often is after how many readings, of some microseconds each, Until's function is asked.
const often = 64

// over returns why nothing is to be read any more.
func (r *Reader) over() error {
	if r.read++; r.ended == nil || r.read%often != 0 {
		return nil
	}
	return r.ended()
}

// Field is where a member of a structure is.
type Field struct {
	At   int // bytes
	Bit  int // of the first bit of a bit field, counted from At
	Bits int // of a bit field; 0 if it is none
}

// Open loads the program and finds the members of structures that are named
// like "sock.sk_err"; "sock" is the structure itself, whose size is At. One that
// begins with a question mark may be missing, a structure if all that is asked of it
// does: see Has. It takes some 10 ms, most of them for the kernel's type information. Errors are
// ErrUnavailable.
func Open(names ...string) (*Reader, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	layout, err := find(x, slices.Concat(names, ownNames(), bufferNames(), taskNames(), percpuNames(), fileNames()))
	if err = errors.Join(err, x.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r := &Reader{program: -1, scratch: -1, layout: layout}
	if r.scratch, r.memory, err = linux.BPFSharedArray(window); err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_MAP_CREATE): %w", ErrUnavailable, err)
	}
	if r.program, err = linux.BPFLoadCall(program(r.scratch), bpf.License); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", ErrUnavailable, err), r.Close())
	}
	return r, nil
}

// Close unloads the program.
func (r *Reader) Close() error {
	errs := []error{unix.Munmap(r.memory)}
	for _, n := range []*int{&r.program, &r.scratch} {
		if *n >= 0 {
			errs = append(errs, unix.Close(*n))
			*n = -1
		}
	}
	return errors.Join(errs...)
}

// What the program is called with: address, size, then what it found out.
const (
	ctxAddr   = 0
	ctxSize   = 8
	ctxResult = 16
	ctxTask   = 24
	ctxWords  = 4
)

// program reads size bytes at addr into the map, and tells which task called.
func program(scratch int) []bpf.Insn {
	return bpf.Finish([]bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Call, 0, 0, 0, bpf.GetCurrentTask),
		bpf.In(bpf.Store64, 6, 0, ctxTask, 0),
		bpf.In(bpf.Imm64, 1, bpf.PseudoMapValue, 0, scratch), bpf.In(0, 0, 0, 0, 0),
		bpf.In(bpf.Load64, 2, 6, ctxSize, 0),
		bpf.In(bpf.JumpGt, 2, 0, 4, window), // past the reading
		bpf.In(bpf.JumpEq, 2, 0, 0, 0),
		bpf.In(bpf.Load64, 3, 6, ctxAddr, 0),
		bpf.In(bpf.Call, 0, 0, 0, bpf.ProbeReadKernel),
		bpf.In(bpf.Store64, 6, 0, ctxResult, 0),
	})
}

// ReadAt fills b with what is at an address.
func (r *Reader) ReadAt(b []byte, at Addr) error {
	for len(b) > 0 {
		if err := r.over(); err != nil {
			return err
		}
		n := min(len(b), window)
		ctx := [ctxWords]uint64{uint64(at), uint64(n), 1}
		if err := linux.BPFCall(r.program, ctx[:]); err != nil {
			return fmt.Errorf("%w: bpf(BPF_PROG_RUN): %w", ErrUnavailable, err)
		}
		if ctx[2] != 0 {
			return fmt.Errorf("%w: nothing is at %#x, %d bytes", ErrUnavailable, uint64(at), n)
		}
		copy(b[:n], r.memory)
		b, at = b[n:], at+Addr(n)
	}
	return nil
}

// Pointer reads the address that is kept at an address.
func (r *Reader) Pointer(at Addr) (Addr, error) {
	var b [8]byte
	err := r.ReadAt(b[:], at)
	return Addr(binary.NativeEndian.Uint64(b[:])), err
}

// File returns where the file behind a descriptor of this process is: a struct
// file.
func (r *Reader) File(fd int) (Addr, error) {
	if r.files == 0 {
		var ctx [ctxWords]uint64
		if err := linux.BPFCall(r.program, ctx[:]); err != nil {
			return 0, fmt.Errorf("%w: bpf(BPF_PROG_RUN): %w", ErrUnavailable, err)
		}
		var err error
		if r.files, err = r.Pointer(Addr(ctx[3]) + r.Off("task_struct.files")); err != nil {
			return 0, err
		}
	}
	at := r.files
	var err error
	for _, f := range []string{"files_struct.fdt", "fdtable.fd"} {
		if at, err = r.Pointer(at + r.Off(f)); err != nil {
			return 0, err
		}
	}
	return r.Pointer(at + Addr(8*fd))
}

// Sock returns where the socket behind a descriptor of this process is: a
// struct sock.
func (r *Reader) Sock(fd int) (Addr, error) {
	at, err := r.PrivateOf(fd)
	if err == nil {
		at, err = r.Pointer(at + r.Off("socket.sk"))
	}
	return at, err
}

// Private returns where an open file, a struct file, has what makes it one of its kind: for
// a socket a struct socket, for an epoll file a struct eventpoll.
func (r *Reader) Private(file Addr) (Addr, error) {
	return r.Pointer(file + r.Off("file.private_data"))
}

// PrivateOf is Private for a descriptor of this process.
func (r *Reader) PrivateOf(fd int) (Addr, error) {
	file, err := r.File(fd)
	if err != nil {
		return 0, err
	}
	return r.Private(file)
}

// ownNames are the members that this package needs itself.
func ownNames() []string {
	return []string{
		"task_struct.files", "files_struct.fdt", "fdtable.fd", "file.private_data", "socket.sk",
		"pipe_inode_info.bufs", "pipe_buffer.page", "page",
	}
}
