package packet

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
)

// A socket is told once that its interface went down (ENETDOWN), and so is one that is
// bound to an interface which is down already.

// saveDown notes that a socket hasn't been told yet.
func saveDown(p *socket.Plain) error {
	if p.Sock == nil || unix.Errno(p.Sock.U32("sock.sk_err")) != unix.ENETDOWN {
		return nil
	}
	told := p.Sock.In("sock.sk_error_queue")
	if p.Sock.Pointer("sock.sk_error_queue") != told.At { // other things wait as well
		return nil
	}
	sa, err := unix.Getsockname(p.FD.Int())
	at, ok := sa.(*unix.SockaddrLinklayer)
	if err != nil || !ok { // of SOCK_PACKET
		return nil
	}
	if is, err := isDown(at.Ifindex); err != nil || !is && at.Ifindex != gone {
		return p.Fail(err)
	}
	p.ErrorsKept, p.More.Error = true, proto.Uint32(uint32(unix.ENETDOWN))
	return nil
}

// isDown tells whether an interface is there and down.
func isDown(index int) (bool, error) {
	if index <= 0 {
		return false, nil
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return false, fmt.Errorf("look for interface %d: %w", index, err)
	}
	return i.Flags&net.FlagUp == 0, nil
}

// checkDown refuses an error that waits which bind(2) would not bring about.
func (n *node) checkDown() error {
	switch e := unix.Errno(n.More.GetError()); {
	case e == 0:
		return nil
	case e != unix.ENETDOWN || n.old() || n.entry.GetProtocol() == 0:
		return fmt.Errorf("an error that waits (%v) can't be brought about", e)
	}
	return nil
}

// stillDown makes sure that the interface is down, so that the socket is told.
func (n *node) stillDown() error {
	if n.More.GetError() == 0 {
		return nil
	}
	is, err := isDown(int(n.entry.GetIfindex()))
	if err == nil && !is {
		err = errors.New("it hasn't been told yet that its interface went down, which is up by now: set it down for the restore")
	}
	return err
}

// told has a socket that was just bound know what it knew before.
func (n *node) told(own int) error {
	if n.More.GetError() != 0 {
		return nil
	}
	if _, err := unix.GetsockoptInt(own, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
		return fmt.Errorf("read SO_ERROR: %w", err)
	}
	return nil
}
