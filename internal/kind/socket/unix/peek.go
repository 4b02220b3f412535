package unix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
)

const peek = sys.MSG_PEEK | sys.MSG_DONTWAIT

// Reasons why a queue can't be carried over.
var (
	errAncillary = errors.New("descriptors (SCM_RIGHTS) come along with queued data")
	errHidden    = errors.New("there are empty messages in its queue that were peeked at before, so that the kernel doesn't show any more where they are")
	errBehind    = errors.New("an error (SO_ERROR) waits to be reported before what is in its queue, which can't be looked at without taking the error away")
	errLonely    = errors.New("data in its queue has descriptors (SCM_RIGHTS) that nobody else in the tree has open, and that can't be received without reading the data")
	errBetween   = errors.New("urgent data (MSG_OOB) is behind a message with descriptors in its queue")
	errOutsider  = errors.New("a message in its queue was sent by a process of another PID namespace")
)

// Control messages that golang.org/x/sys/unix lacks, see
// include/uapi/linux/socket.h and asm-generic/socket.h.
const (
	scmPidfd = 4  // SCM_PIDFD, Linux 6.5
	soInq    = 84 // SO_INQ and SCM_INQ, Linux 6.17
)

// overflow is the user and group of whom the kernel doesn't tell
// (kernel.overflowuid).
const overflow = 65534

// peeker reads a queue and leaves it as it is.
type peeker struct {
	look   *look
	fd     int
	count  func() (int, error) // messages, by the kernel's memory
	uneven func([]*message) (bool, error)
	// lengths is of the queue's buffers, see bufferLengths
	lengths func() ([]int, error)
	// whole reads all messages from the kernel's memory; nil: only by peeking
	whole  func() ([]*message, error)
	undo   []linux.SockOpt
	fresh  bool // its options are those of a new socket
	told   bool // the guard has been told what is changed, as it has of all plain queues
	home   bool // SO_PEEK_OFF was set to 0, and nothing was peeked at since
	counts bool // SO_INQ is on
	buf    []byte
	far    bool        // only lengths of a stream are to be kept
	region []byte      // buf if so, as it was mapped
	room   *[4096]byte // for control messages
	rooms  *sync.Pool
}

// all returns what is queued. While it is read, messages are made to tell all
// that the kernel knows of them.
func (q *peeker) all() (messages []*message, err error) {
	if q.look.u.Type != sys.SOCK_STREAM {
		events, err := poll(q.fd, sys.POLLIN)
		if err != nil || events&sys.POLLIN == 0 {
			return nil, err
		}
		if events&sys.POLLERR != 0 {
			return nil, q.behindError()
		}
	}
	defer func() { err = errors.Join(err, q.restore()) }()
	if err := q.adjust(); err != nil {
		return nil, err
	}
	q.findRoom()
	if q.look.u.Type == sys.SOCK_STREAM {
		return q.stream()
	}
	return q.datagrams()
}

// behindError returns why a queue can't be read that an error is in front of:
// looking into it takes the error away.
func (q *peeker) behindError() error {
	if q.look.u.RQueue > 0 {
		return errBehind
	}
	n, err := q.count()
	switch {
	case errors.Is(err, sockmem.ErrUnavailable):
		return fmt.Errorf("%w; whether messages are isn't known (%w)", errBehind, err)
	case err == nil && n > 0:
		return errBehind
	}
	return err
}

// findRoom gets room for control messages, which a queue before may have had.
func (q *peeker) findRoom() {
	if q.rooms != nil {
		q.room, _ = q.rooms.Get().(*[4096]byte)
	}
	if q.room == nil {
		q.room = new([4096]byte)
	}
}

// drop gives back what a reading needed.
func (q *peeker) drop() {
	if q.rooms != nil && q.room != nil {
		q.rooms.Put(q.room)
	}
	_ = q.release() // it was mapped
	q.buf, q.room = nil, nil
}

// adjust sets options of the frozen task's socket for as long as its queue is
// read, after the guard was told what they were.
func (q *peeker) adjust() error {
	if q.fresh {
		q.undo = changes()
		return q.change()
	}
	for _, want := range []linux.SockOpt{
		{Name: sys.SO_PEEK_OFF, Value: 0},
		{Name: sys.SO_PASSCRED, Value: 1},
		{Name: sys.SO_PASSPIDFD, Value: 0},
		{Name: sys.SO_PASSSEC, Value: 0},
		{Name: soPassRights, Value: 1},
	} {
		if err := q.adjustOne(want); err != nil {
			return err
		}
	}
	return q.change()
}

// change sets the options that q.undo is about.
func (q *peeker) change() error {
	if len(q.undo) == 0 || q.look.env.Guard == nil || q.told {
		return q.set()
	}
	if err := q.look.env.Guard.Back(q.look.file, q.undo...); err != nil {
		return err
	}
	return q.set()
}

// soPassRights is SO_PASSRIGHTS of include/uapi/asm-generic/socket.h (Linux
// 6.16).
const soPassRights = 83

// adjustOne notes that an option has to be changed and what it was.
func (q *peeker) adjustOne(want linux.SockOpt) error {
	old, err := sys.GetsockoptInt(q.fd, sys.SOL_SOCKET, want.Name)
	if errors.Is(err, sys.ENOPROTOOPT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read option %d: %w", want.Name, err)
	}
	// The offset moves while it is used.
	if old != want.Value || want.Name == sys.SO_PEEK_OFF {
		q.undo = append(q.undo, linux.SockOpt{Level: sys.SOL_SOCKET, Name: want.Name, Value: old})
	}
	return nil
}

func (q *peeker) set() error {
	for _, o := range q.undo {
		switch o.Name {
		case sys.SO_PASSCRED, soPassRights:
			o.Value = 1
		default:
			o.Value = 0
		}
		if err := o.Set(q.fd); err != nil {
			return err
		}
		q.home = q.home || o.Name == sys.SO_PEEK_OFF
	}
	return nil
}

// restore sets options back.
func (q *peeker) restore() error {
	var errs []error
	for _, o := range slices.Backward(q.undo) {
		errs = append(errs, o.SetBack(q.fd))
	}
	return errors.Join(errs...)
}

func (q *peeker) seek(at int) error {
	if at == 0 && q.home {
		return nil
	}
	q.home = false
	return linux.SockOpt{Level: sys.SOL_SOCKET, Name: sys.SO_PEEK_OFF, Value: at}.Set(q.fd)
}

// poll returns which of these events there are now, see poll(2).
func poll(fd int, events int16) (int16, error) {
	fds := []sys.PollFd{{Fd: int32(fd), Events: events}}
	if _, err := linux.PollNow(fds); err != nil {
		return 0, fmt.Errorf("poll: %w", err)
	}
	return fds[0].Revents, nil
}

// peeked is what one recvmsg(2) has told.
type peeked struct {
	n      int // length of the message, though only so much of it was read as there was room
	who    *credentials
	told   bool // credentials came along, if only nobody's
	name   []byte
	rights []*fd.FD
}

// next peeks at what is at the offset; more than len(buf) is not read. It
// returns nil at the end.
func (q *peeker) next(buf []byte, flags int) (*peeked, error) {
	q.home = false
	var name [family + maxName + 1]byte
	r, err := linux.Recvmsg(q.fd, buf, q.room[:], name[:], peek|sys.MSG_CMSG_CLOEXEC|flags)
	switch {
	case err == sys.EAGAIN:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("peek at its queue: %w", err)
	}
	p := &peeked{n: r.N, name: cutName(name[:], r.Name)}
	if err := q.parse(p, q.room[:r.Control]); err != nil {
		return nil, errors.Join(err, closeAll(p.rights))
	}
	if r.Flags&sys.MSG_CTRUNC != 0 {
		return nil, errors.Join(fmt.Errorf("%w: more than fits into %d bytes", errAncillary, len(q.room)), closeAll(p.rights))
	}
	return p, nil
}

// parse reads the control messages that came along.
func (q *peeker) parse(p *peeked, controls []byte) error {
	all, err := sys.ParseSocketControlMessage(controls)
	if err != nil {
		return fmt.Errorf("control messages: %w", err)
	}
	for i := range all {
		m := &all[i]
		if m.Header.Level != sys.SOL_SOCKET {
			return fmt.Errorf("%w: a control message of level %d, type %d", errAncillary, m.Header.Level, m.Header.Type)
		}
		switch m.Header.Type {
		case sys.SCM_RIGHTS, scmPidfd:
			for b := m.Data; len(b) >= 4; b = b[4:] {
				d := fd.New(int(int32(binary.NativeEndian.Uint32(b))))
				if m.Header.Type == scmPidfd {
					d.Close()
					continue
				}
				p.rights = append(p.rights, d)
			}
		case sys.SCM_CREDENTIALS:
			if len(m.Data) < sys.SizeofUcred {
				return fmt.Errorf("credentials of %d bytes", len(m.Data))
			}
			ne := binary.NativeEndian
			p.told = true
			who := credentials{ne.Uint32(m.Data), ne.Uint32(m.Data[4:]), ne.Uint32(m.Data[8:])}
			switch {
			case who.pid != 0:
				p.who = &who
			case who.uid != overflow || who.gid != overflow:
				return errOutsider
			}
		case soInq:
			q.counts = true
		}
	}
	return nil
}

// datagrams walks through messages by SO_PEEK_OFF. An empty message and the
// end of a connection both read as 0 bytes; they differ in that the former
// tells credentials.
func (q *peeker) datagrams() (out []*message, err error) {
	q.buf = make([]byte, 64<<10)
	at := 0
	for {
		if err := q.look.env.Check(); err != nil {
			return out, err
		}
		p, err := q.next(q.buf, sys.MSG_TRUNC)
		if err != nil || p == nil || !p.told {
			return out, err
		}
		if p.n > len(q.buf) {
			// The kernel went on by as much as it gave out.
			q.buf = make([]byte, p.n)
			if err := errors.Join(closeAll(p.rights), q.seek(at)); err != nil {
				return nil, err
			}
			continue
		}
		at += p.n
		files, err := q.receive(p.rights)
		if err != nil {
			return nil, err
		}
		out = append(out, &message{data: bytes.Clone(q.buf[:p.n]), rights: files, who: p.who, name: p.name})
		if len(out) == manyPeeked && q.whole != nil {
			if all := q.wholeAs(out); all != nil {
				return all, nil
			}
		}
	}
}

// manyPeeked is from how many messages on a queue is read from the kernel's memory, if
// that can be: who peeks at one has the kernel walk past all before it, so that 20,000 take
// two seconds, and 100,000 a minute.
var manyPeeked = 500

// wholeAs reads the queue from the kernel's memory. nil if that can't be, or doesn't begin
// with what was peeked at: there are messages that show no more, or that bring files which
// nobody else has.
func (q *peeker) wholeAs(peeked []*message) []*message {
	all, err := q.whole()
	if err != nil || len(all) < len(peeked) {
		return nil //nolint:nilerr // peeking tells as much
	}
	for i, m := range peeked {
		if !m.equal(all[i]) {
			return nil
		}
	}
	return all
}

// equal tells whether the same can be seen of two messages.
func (m *message) equal(o *message) bool {
	who := m.who == o.who || m.who != nil && o.who != nil && *m.who == *o.who
	return who && bytes.Equal(m.data, o.data) && bytes.Equal(m.name, o.name) && slices.Equal(m.rights, o.rights)
}
