package inet

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket/tcp"
)

// canWait tells whether an error can be had by a socket that is not connected any more.
func canWait(e unix.Errno) bool { return e == unix.ECONNABORTED || canFail(e) }

// readFault finds out which error waits at a TCP socket that is not connected: of a listener
// poll(2) does not tell it.
func (l *look) readFault() error {
	if l.connected || l.protocol != unix.IPPROTO_TCP || l.inside == nil || l.loneOf() != nil {
		return nil // one that only messages have is refused if it has an error
	}
	return l.hasFault(unix.Errno(l.inside.U32("sock.sk_err")))
}

// hasFault notes the error.
func (l *look) hasFault(failure unix.Errno) error {
	if !canWait(failure) {
		return l.refuse("it was disconnected (connect to AF_UNSPEC), and an error that can't be made again waits to be reported (SO_ERROR: %v); let the process read it first", failure)
	}
	l.fault = failure
	return nil
}

// planFault checks the error that waits at a TCP socket that is not connected.
func (n *node) planFault(x *extra.SocketEntry) error {
	failure := unix.Errno(x.GetError())
	if failure == 0 || n.protocol != unix.IPPROTO_TCP || n.ended != nil {
		return nil
	}
	if n.connected || !canWait(failure) {
		return fmt.Errorf("an error that waits (%v) can't be made again", failure)
	}
	n.give(func(m *more) { m.fault = failure })
	return nil
}

// setFault has an error wait at a new socket, which has no option yet that could keep what
// brings it away.
func (n *node) setFault(own int) error {
	failure := n.few().fault
	if failure == 0 {
		return nil
	}
	err := tcp.Fault(own, &tcp.End{Err: failure}, func(port uint16) error {
		return unix.Connect(own, address{loopbackIP(n.family), port}.sockaddr(n.family, 0))
	})
	if err != nil {
		return fmt.Errorf("have an error wait (%v): %w", failure, err)
	}
	if n.at.set() {
		return nil
	}
	// It tells the port that it had for that until it is bound.
	return n.bindTo(own, address{ip: anyIP(n.family)}, 0)
}
