package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// Errors that wait at a socket of ping come again as those of UDP do: the kernel finds
// it by its number. What an ICMP message says of a raw socket's packet it tells all raw
// sockets of that protocol.

// saveErrors writes down errors that wait at a ping.
func (l *bareLook) saveErrors() error {
	if l.bare != unix.SOCK_DGRAM || l.Sock == nil {
		return nil
	}
	p := []unix.PollFd{{Fd: int32(l.FD.Int())}}
	if _, err := linux.PollNow(p); err != nil || p[0].Revents&unix.POLLERR == 0 {
		return l.Fail(err)
	}
	m, err := l.kind.memory()
	if err != nil {
		return l.Fail(err)
	}
	box := &inbox{err: unix.Errno(l.Sock.U32("sock.sk_err"))}
	if err = box.readErrors(m, l.Sock.At+m.Off("sock.sk_error_queue")); err == nil {
		err = l.checkErrors(box)
	}
	if errors.Is(err, errInbox) {
		return l.Refuse("%v; let the process read it first", err)
	}
	if err != nil {
		return l.Fail(err)
	}
	if l.ErrorsKept = true; box.err != 0 {
		l.More.Error = proto.Uint32(uint32(box.err))
	}
	return box.save(l.Env, &l.File.ID)
}

// checkErrors refuses those that can't be brought about again.
func (l *bareLook) checkErrors(box *inbox) error {
	ends, err := l.kind.bareEnds(l.Plain, l.sort)
	if err != nil {
		return err
	}
	f := &failed{inbox: box, at: address{ends.Local.Addr(), ends.Local.Port()}, peer: address{ends.Remote.Addr(), ends.Remote.Port()}}
	if !f.possible() || f.at.port == 0 {
		return fmt.Errorf("%w: an error (%v) waits to be reported", errInbox, box.err)
	}
	if l.kind.shares(l.sort, ends) {
		return fmt.Errorf("%w: errors wait, and another ping has its number (SO_REUSEADDR)", errInbox)
	}
	return nil
}

// planErrors checks what waits to be reported.
func (n *bareNode) planErrors() error {
	box, number := n.kind.datagrams[n.Self], n.More.GetError()
	if box == nil && number == 0 {
		return nil
	}
	if box == nil {
		box = &inbox{}
	}
	if n.kind.pings == nil {
		n.kind.pings = map[plan.ID]bool{}
	}
	n.kind.pings[n.Self] = true
	box.err = unix.Errno(number)
	n.failed = &failed{inbox: box, at: n.at, peer: n.peer, protocol: n.protocol, device: n.entry.GetIfname()}
	switch {
	case n.bare != unix.SOCK_DGRAM || len(box.waiting) > 0:
		return errors.New("datagrams, or errors, wait at a socket without ports: that can't be")
	case !n.failed.possible() || n.at.port == 0:
		return fmt.Errorf("an error that waits (%v) can't be made again", box.err)
	}
	for _, d := range box.errs {
		if d.to.Is6() != (n.family == unix.AF_INET6) {
			return errors.New("an ICMP message of the other family waits: that can't be")
		}
	}
	return nil
}
