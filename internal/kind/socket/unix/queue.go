package unix

import (
	"bytes"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	sk_packet "glis.dev/glis/image/criu/sk-packet"
	"glis.dev/glis/image/proto"
)

const peek = sys.MSG_PEEK | sys.MSG_DONTWAIT

// Reasons why a queue can't be read.
var (
	errAncillary = errors.New("something comes along with queued data: descriptors (SCM_RIGHTS), or, since an option asks for them (SO_PASSCRED, SO_PASSPIDFD, SO_TIMESTAMP, SO_INQ), credentials, a pidfd, a time or a count")
	errUrgent    = errors.New("there is a byte of urgent data (MSG_OOB) in its queue, or the mark of one that was read")
	errHidden    = errors.New("there are empty messages in its queue that were peeked at before, so that the kernel doesn't show any more where they are")
	errNobody    = errors.New("a message is in its queue, and nobody is connected to it who can have sent it")
	errSender    = errors.New("a message in its queue comes from a socket with a name")
)

// queue puts what waits to be read into sk-queues.img, and leaves it where it
// is.
func (k *Kind) queue(l *look) error {
	if l.role == listener {
		return nil
	}
	var messages [][]byte
	var err error
	if l.u.Type == sys.SOCK_STREAM {
		messages, err = l.peekStream()
	} else {
		messages, err = k.peekMessages(l)
	}
	switch {
	case errors.Is(err, errAncillary), errors.Is(err, errUrgent), errors.Is(err, errHidden), errors.Is(err, errNobody), errors.Is(err, errSender):
		return l.refuse("%v; this isn't supported yet: let the process read its queue first", err)
	case err != nil:
		return l.fail(err)
	}
	for _, m := range messages {
		e := &sk_packet.SkPacketEntry{IdFor: &l.file.ID, Length: proto.Uint32(uint32(len(m)))}
		if err := l.env.Images.Put(image.SkQueues, e, m); err != nil {
			return err
		}
	}
	return nil
}

// peekOffset returns the offset at which the process itself peeks next, -1 if
// it doesn't use one (SO_PEEK_OFF).
func (l *look) peekOffset() int {
	v, ok := l.kernel.Value(l.opts.Values, "SO_PEEK_OFF")
	if !ok {
		return -1
	}
	return int(int32(v.Lo))
}

// poll returns which of these events there are now, see poll(2).
func poll(fd int, events int16) (int16, error) {
	fds := []sys.PollFd{{Fd: int32(fd), Events: events}}
	if _, err := sys.Poll(fds, 0); err != nil {
		return 0, fmt.Errorf("poll: %w", err)
	}
	return fds[0].Revents, nil
}

func setPeekOffset(fd, at int) error {
	if err := sys.SetsockoptInt(fd, sys.SOL_SOCKET, sys.SO_PEEK_OFF, at); err != nil {
		return fmt.Errorf("set SO_PEEK_OFF to %d: %w", at, err)
	}
	return nil
}

// peekStream reads the bytes of a stream in one go, mostly without touching
// SO_PEEK_OFF: a process whose tracer dies must not be left with that.
func (l *look) peekStream() (messages [][]byte, err error) {
	if l.u.RQueue == 0 {
		return nil, nil
	}
	fd, old := l.fd.Int(), l.peekOffset()
	// Urgent data that is read in line doesn't show in any other way.
	events, err := poll(fd, sys.POLLPRI)
	if err != nil {
		return nil, err
	}
	if events&sys.POLLPRI != 0 {
		return nil, errUrgent
	}
	if old >= 0 {
		if err := setPeekOffset(fd, 0); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, setPeekOffset(fd, old)) }()
	}
	buf := make([]byte, l.u.RQueue)
	// Without room for it, what comes along is only hinted at by MSG_CTRUNC.
	n, _, flags, _, err := sys.Recvmsg(fd, buf, nil, peek)
	switch {
	case err != nil:
		return nil, fmt.Errorf("peek at %d queued bytes: %w", len(buf), err)
	case flags&sys.MSG_CTRUNC != 0:
		return nil, errAncillary
	case n < len(buf):
		return nil, errUrgent
	}
	return [][]byte{buf}, nil
}

// peekMessages reads the messages of a datagram or seqpacket socket.
func (k *Kind) peekMessages(l *look) ([][]byte, error) {
	events, err := poll(l.fd.Int(), sys.POLLIN)
	if err != nil || events&sys.POLLIN == 0 {
		return nil, err
	}
	messages, err := l.peekAll()
	switch {
	case err != nil:
		return nil, err
	case l.role == alone && len(messages) > 0:
		return nil, errNobody
	case l.role == paired:
		return messages, k.compare(l, messages)
	case l.role == orphan:
		return messages, k.count(l, messages)
	}
	return messages, nil
}

// peekAll walks through the messages by SO_PEEK_OFF. An empty message and the
// end of a connection both read as 0 bytes; they differ in that the former has
// a sender's credentials, if they are asked for.
func (l *look) peekAll() (messages [][]byte, err error) {
	fd, old := l.fd.Int(), l.peekOffset()
	if err := setPeekOffset(fd, 0); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, setPeekOffset(fd, old)) }()
	w := walk{fd: fd, buf: make([]byte, 64<<10)}
	if l.u.Type == sys.SOCK_SEQPACKET && l.u.Shutdown&shutRead != 0 {
		undo, err := l.askCredentials()
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, undo()) }()
		w.control = make([]byte, sys.CmsgSpace(sys.SizeofUcred))
	}
	return w.all()
}

// askCredentials sets SO_PASSCRED for a while.
func (l *look) askCredentials() (undo func() error, err error) {
	fd := l.fd.Int()
	old, err := sys.GetsockoptInt(fd, sys.SOL_SOCKET, sys.SO_PASSCRED)
	if err != nil {
		return nil, fmt.Errorf("read SO_PASSCRED: %w", err)
	}
	if old != 0 {
		return nil, errAncillary
	}
	if err := sys.SetsockoptInt(fd, sys.SOL_SOCKET, sys.SO_PASSCRED, 1); err != nil {
		return nil, fmt.Errorf("set SO_PASSCRED: %w", err)
	}
	return func() error { return sys.SetsockoptInt(fd, sys.SOL_SOCKET, sys.SO_PASSCRED, 0) }, nil
}

// walk is a walk through the messages of a queue.
type walk struct {
	fd      int
	buf     []byte
	control []byte // room for credentials, if they tell a message from the end
	at      int    // bytes of the messages so far
}

func (w *walk) all() ([][]byte, error) {
	var messages [][]byte
	for {
		n, controls, flags, from, err := sys.Recvmsg(w.fd, w.buf, w.control, peek|sys.MSG_TRUNC)
		switch {
		case err == sys.EAGAIN, err == nil && n == 0 && w.control != nil && controls == 0 && flags&sys.MSG_CTRUNC == 0:
			return messages, nil
		case err != nil:
			return nil, fmt.Errorf("peek at message %d: %w", len(messages)+1, err)
		case flags&sys.MSG_CTRUNC != 0:
			return nil, errAncillary
		case from != nil: // an unnamed socket has no address at all
			return nil, errSender
		case n > len(w.buf):
			// The kernel went on by as much as it gave out.
			w.buf = make([]byte, n)
			if err := setPeekOffset(w.fd, w.at); err != nil {
				return nil, err
			}
			continue
		}
		messages = append(messages, bytes.Clone(w.buf[:n]))
		w.at += n
	}
}
