// Package sockmem reads how sockets look in the kernel's own memory, all of a
// process in a few system calls, by a BPF iterator (Linux 6.1). It knows
// nothing of what the bytes mean: see package socket for how it is learnt which
// of them an option changes.
package sockmem

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/warm"
)

// ErrUnavailable says that this kernel, or the engine's privileges, don't allow
// the reading: CAP_BPF, CAP_PERFMON, CONFIG_DEBUG_INFO_BTF, no lockdown.
var ErrUnavailable = kmem.ErrUnavailable

// Reader is the loaded program. It is not for use by several goroutines at
// once.
type Reader struct {
	layout  layout
	program int
	scratch int // map
	record  int // size of what the program writes for a socket
	room    []byte
	last    int32 // descriptor that came last
}

// Socket is one socket that a process has as a descriptor.
type Socket struct {
	FD   int32
	Ino  uint64
	Mode uint16 // S_IFSOCK and permissions
	UID  uint32
	GID  uint32
	// Locked tells that there is, or was, a file lock on it (flock(2)).
	Locked bool
	// Flags are O_*, with O_CLOEXEC if the descriptor is closed on exec.
	Flags uint32
	File  []byte // its struct file
	Sock  []byte // its struct unix_sock; of another family's as many bytes (see OpenTCP)
	// Passing is what it is told with messages (PassCredentials and so on) where Sock
	// doesn't show that, before Linux 6.16.
	Passing uint8
	// Family is its address family (AF_*).
	Family uint16
	// Owned tells that somebody is told of I/O on it, or a signal is chosen for
	// that (F_SETOWN, F_SETSIG). One that had an owner may be called owned
	// still.
	Owned bool
	// Err is the error that the next call reports, 0 if there is none.
	Err int32
	// Shutdown has bit 0 if nothing is received any more, bit 1 if nothing is
	// sent.
	Shutdown uint8
	// Queued is how many buffers wait to be read: messages, or pieces of a
	// stream. On a listener it is the connections to be accepted.
	Queued uint32
	// Peer are the kernel's addresses of the process and the credentials that
	// its peer has (SO_PEERCRED, SO_PEERGROUPS): the same ones, the same peer.
	Peer [2]uint64
	// Chosen tells that a program chooses among the sockets that share its
	// port (SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF).
	Chosen bool
}

// Open loads the program: some 10 ms, most of it reading type information.
func Open() (*Reader, error) {
	l, err := kernelLayout()
	if err != nil {
		return nil, err
	}
	return load(l)
}

// load loads the program for a layout.
func load(l *layout) (r *Reader, err error) {
	r = &Reader{layout: *l, program: -1, scratch: -1, record: recordHead + align(l.file) + align(l.sock), room: make([]byte, bpf.Room)}
	warm.Written(r.room)
	if r.scratch, err = linux.BPFArray(r.record); err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_MAP_CREATE): %w", ErrUnavailable, err)
	}
	r.program, err = linux.BPFLoadIterator(program(l, r.scratch), bpf.License, l.function)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", ErrUnavailable, err), r.Close())
	}
	return r, nil
}

// TellsPassing says whether Socket.Passing tells anything.
func (r *Reader) TellsPassing() bool { return r.layout.passing >= 0 }

// Close unloads the program.
func (r *Reader) Close() error {
	var errs []error
	for _, n := range []*int{&r.program, &r.scratch} {
		if *n >= 0 {
			errs = append(errs, unix.Close(*n))
			*n = -1
		}
	}
	return errors.Join(errs...)
}

// Each calls fn with every socket of the process behind a pidfd, which only
// means something while the process stands still. The bytes are only valid
// during the call, within which there must be no other. It takes some 1 µs per socket.
func (r *Reader) Each(pidfd int, fn func(Socket) error) error {
	it, err := linux.BPFTaskIterator(r.program, pidfd)
	if err != nil {
		return fmt.Errorf("%w: bpf iterator over a process's files: %w", ErrUnavailable, err)
	}
	defer unix.Close(it)
	r.last = -1
	return bpf.DrainInto(it, r.room, func(b []byte) (int, error) { return r.records(b, fn) })
}

// records hands on the whole records in b and returns how many bytes are left.
func (r *Reader) records(b []byte, fn func(Socket) error) (left int, err error) {
	for len(b) >= r.record {
		status, n := int64(binary.NativeEndian.Uint64(b[8:])), int32(binary.NativeEndian.Uint32(b))
		// Descriptors come in order: Linux 6.1 begins anew where there are threads.
		if status == 0 && n > r.last {
			r.last = n
			file := recordHead + r.layout.file
			sock := recordHead + align(r.layout.file)
			s := Socket{FD: n, File: b[recordHead:file], Sock: b[sock : sock+r.layout.sock]}
			s.Chosen = binary.NativeEndian.Uint64(b[recordProgram:]) != 0
			s.Passing = uint8(passingOf(binary.NativeEndian.Uint32(b[recordPassing:])))
			s.Queued = binary.NativeEndian.Uint32(s.Sock[r.layout.queue+r.layout.length:])
			s.Err, s.Shutdown = int32(binary.NativeEndian.Uint32(s.Sock[r.layout.err:])), s.Sock[r.layout.shutdown]
			s.Family = binary.NativeEndian.Uint16(s.Sock[r.layout.family:])
			for _, at := range r.layout.owner {
				s.Owned = s.Owned || binary.NativeEndian.Uint64(s.File[at:]) != 0
			}
			r.inode(b, &s)
			for i, at := range r.layout.peer {
				s.Peer[i] = binary.NativeEndian.Uint64(s.Sock[at:])
			}
			if err := fn(s); err != nil {
				return 0, err
			}
		}
		b = b[r.record:]
	}
	return len(b), nil
}

// inode reads what stat(2) and fdinfo tell.
func (r *Reader) inode(b []byte, s *Socket) {
	ne := binary.NativeEndian
	s.Ino, s.Mode, s.UID, s.GID = ne.Uint64(b[recordInode:]), ne.Uint16(b[recordMode:]), ne.Uint32(b[recordUID:]), ne.Uint32(b[recordGID:])
	s.Locked = ne.Uint64(b[recordLocks:]) != 0
	s.Flags = ne.Uint32(s.File[r.layout.flags:]) &^ unix.O_CLOEXEC
	if ne.Uint64(b[recordCloexec:])>>(uint(s.FD)%64)&1 != 0 {
		s.Flags |= unix.O_CLOEXEC
	}
}
