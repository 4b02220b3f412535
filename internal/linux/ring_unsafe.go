package linux

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ring makes system calls on sockets many at a time, in their order, by one
// system call: io_uring(7). In a virtual machine that is a third of the time they
// take one by one. It is for one goroutine.
type Ring struct {
	fd           int
	queue, calls []byte // what is shared with the kernel: the heads and tails, and the calls
	tail         uint32
	sq, cq       ends
	done         []ringResult
	n            int // calls that wait
	room         [ringBytes]byte
	used         int // bytes of room
	results      [ringSize]int32
	ran          int  // of results
	broken       bool // nobody knows what it has made
}

// ends are the heads and tails of a queue.
type ends struct{ head, tail *uint32 }

// ringCall is struct io_uring_sqe of include/uapi/linux/io_uring.h.
type ringCall struct {
	op, flags  uint8
	ioprio     uint16
	fd         int32
	off        uint64 // or cmd_op
	addr       uint64 // or level and optname
	length     uint32
	opFlags    uint32
	data       uint64
	_, _       uint16
	fileOrSize uint32
	optval     uint64
	_          uint64
}

// ringResult is struct io_uring_cqe.
type ringResult struct {
	data  uint64
	res   int32
	flags uint32
}

const (
	ringSize  = 32   // calls at a time
	ringBytes = 4096 // of values, addresses and names

	ringConnect    = 16 // IORING_OP_CONNECT
	ringOpenat     = 18 // IORING_OP_OPENAT
	ringCommand    = 46 // IORING_OP_URING_CMD
	ringBind       = 56 // IORING_OP_BIND, Linux 6.11
	ringSetsockopt = 3  // SOCKET_URING_OP_SETSOCKOPT, Linux 6.7

	ringQueue, ringCalls = 0, 0x10000000 // IORING_OFF_SQ_RING, IORING_OFF_SQES
	ringGetEvents        = 1             // IORING_ENTER_GETEVENTS
	ringSingleMmap       = 1             // IORING_FEAT_SINGLE_MMAP
	ringProbe            = 8             // IORING_REGISTER_PROBE
)

// ringParams is struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                    [3]uint32
	sq, cq                                               ringOffsets
}

// ringOffsets is struct io_sqring_offsets, and io_cqring_offsets, of which the fifth
// to the seventh are others.
type ringOffsets struct {
	head, tail, mask, entries, five, six, seven, _ uint32
	_                                              uint64
}

// NewRing fails with ENOSYS, EPERM or another errno where the kernel, its sysctl
// kernel.io_uring_disabled or a filter does not let it be made, and with ENOTSUP
// before Linux 6.11.
func NewRing() (*Ring, error) {
	var p ringParams
	n, _, e := unix.RawSyscall(unix.SYS_IO_URING_SETUP, ringSize, uintptr(unsafe.Pointer(&p)), 0)
	if e != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", e)
	}
	unix.CloseOnExec(int(n))
	r := &Ring{fd: int(n)}
	if err := r.share(&p); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// share maps what is shared with the kernel.
func (r *Ring) share(p *ringParams) (err error) {
	if p.features&ringSingleMmap == 0 || p.sqEntries != ringSize || p.cqEntries < ringSize || !r.knows(ringBind) {
		return unix.ENOTSUP
	}
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	size := max(int(p.sq.seven)+4*ringSize, int(p.cq.six)+int(p.cqEntries)*int(unsafe.Sizeof(ringResult{})))
	if r.queue, err = unix.Mmap(r.fd, ringQueue, size, prot, flags); err != nil {
		return fmt.Errorf("map a queue of io_uring: %w", err)
	}
	if r.calls, err = unix.Mmap(r.fd, ringCalls, ringSize*int(unsafe.Sizeof(ringCall{})), prot, flags); err != nil {
		return fmt.Errorf("map the calls of io_uring: %w", err)
	}
	r.sq, r.cq = ends{r.word(p.sq.head), r.word(p.sq.tail)}, ends{r.word(p.cq.head), r.word(p.cq.tail)}
	for i := range uint32(ringSize) { // which call is in which place
		*r.word(p.sq.seven + 4*i) = i
	}
	r.done = unsafe.Slice((*ringResult)(unsafe.Pointer(&r.queue[p.cq.six])), p.cqEntries)
	return nil
}

func (r *Ring) word(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.queue[at])) }

// knows asks the kernel whether it has an operation.
func (r *Ring) knows(op uint8) bool {
	var probe struct {
		last, ops uint8
		_         uint16
		_         [3]uint32
		list      [64]struct {
			op, _ uint8
			flags uint16
			_     uint32
		}
	}
	_, _, e := unix.RawSyscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), ringProbe, uintptr(unsafe.Pointer(&probe)), uintptr(len(probe.list)), 0, 0)
	return e == 0 && probe.last >= op && probe.list[op].flags&1 != 0 // IO_URING_OP_SUPPORTED
}

// Close ends it. What waits is not made.
func (r *Ring) Close() error {
	for _, m := range [][]byte{r.queue, r.calls} {
		if m != nil {
			_ = unix.Munmap(m) // it is ours
		}
	}
	return unix.Close(r.fd)
}

// next returns the next call, with a copy of a value or address; nil: there is no
// room.
func (r *Ring) next(op uint8, fd int, value []byte) (c *ringCall, at uint64) {
	if r.n == ringSize || r.used+len(value) > ringBytes {
		return nil, 0
	}
	c = (*ringCall)(unsafe.Pointer(&r.calls[r.tail%ringSize*uint32(unsafe.Sizeof(ringCall{}))]))
	*c = ringCall{op: op, fd: int32(fd), data: uint64(r.n)}
	r.tail++
	r.n++
	if len(value) == 0 {
		return c, 0
	}
	at = uint64(uintptr(unsafe.Pointer(&r.room[r.used])))
	r.used += copy(r.room[r.used:], value)
	r.used = (r.used + 7) &^ 7
	return c, at
}

func (r *Ring) setsockopt(fd, level, name int, value []byte) error {
	c, at := r.next(ringCommand, fd, value)
	if c == nil {
		return unix.ENOBUFS
	}
	c.off, c.addr, c.fileOrSize, c.optval = ringSetsockopt, uint64(uint32(level))|uint64(uint32(name))<<32, uint32(len(value)), at
	return nil
}

func (r *Ring) address(op uint8, fd int, address []byte) error {
	c, at := r.next(op, fd, address)
	if c == nil {
		return unix.ENOBUFS
	}
	c.addr, c.off = at, uint64(len(address))
	return nil
}

func (r *Ring) open(dir int, name string, flags int) error {
	var room [256]byte
	c, at := r.next(ringOpenat, dir, append(append(room[:0], name...), 0))
	if c == nil {
		return unix.ENOBUFS
	}
	c.addr, c.opFlags = at, uint32(flags)
	return nil
}

// run makes the calls, all of them even if one fails, and returns the errno of the
// first that does.
func (r *Ring) run() error {
	n := uint32(r.n)
	r.ran = 0
	atomic.StoreUint32(r.sq.tail, r.tail)
	_, _, e := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(n), uintptr(n), ringGetEvents, 0, 0)
	for e == unix.EINTR || e == 0 && r.ready() < n { // all are made already, unless one waits
		_, _, e = unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(n-min(n, r.taken())), uintptr(n), ringGetEvents, 0, 0)
	}
	if e != 0 {
		r.broken = true
		return fmt.Errorf("io_uring_enter: %w", e)
	}
	head := *r.cq.head
	for i := range n { // one that had to wait may be the last
		c := &r.done[(head+i)%uint32(len(r.done))]
		r.results[c.data%ringSize] = c.res
	}
	atomic.StoreUint32(r.cq.head, head+n)
	r.ran, r.n, r.used = r.n, 0, 0
	for _, res := range r.results[:n] {
		if res < 0 {
			return unix.Errno(-res)
		}
	}
	return nil
}

// ready is how many calls have been made.
func (r *Ring) ready() uint32 { return atomic.LoadUint32(r.cq.tail) - *r.cq.head }

// taken is how many of those that wait the kernel has taken.
func (r *Ring) taken() uint32 { return uint32(r.n) - (r.tail - atomic.LoadUint32(r.sq.head)) }
