package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/tcp"
)

// TCP_FASTOPEN_CONNECT has connect(2) wait for the first data, if the kernel has a
// cookie of the server. It is taken before a connection is made only, and then it
// means something for one that follows: when the process has disconnected it.

// errDeferred says that the kernel has put off a connection.
var errDeferred = errors.New("the kernel waits for its first data (TCP_FASTOPEN_CONNECT)")

// checkConnected makes sure that a connection was not put off. Where it is, the
// socket is made without the option, see docs/limits.md.
func (n *node) checkConnected(own int) error {
	info, err := tcp.Look(own)
	if err == nil && info.State != tcp.Established {
		return errDeferred
	}
	return err
}

// connectAtOnce has connect(2) not wait for data.
func (n *node) connectAtOnce(own int) error {
	if n.number("TCP_FASTOPEN_CONNECT") == 0 {
		return nil
	}
	if err := unix.SetsockoptInt(own, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 0); err != nil {
		return fmt.Errorf("reset TCP_FASTOPEN_CONNECT: %w", err)
	}
	return nil
}
