package sockdiag

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// receiveBuffer is what one receive of a dump can take, in bytes. The kernel
// fills up to 32 KiB at a time for those who offer that much.
const receiveBuffer = 32 << 10

// Conn is a NETLINK_SOCK_DIAG socket of one network namespace. It is not for
// use by several goroutines at once.
type Conn struct{ nl *netlink.Conn }

// Open opens a connection in the network namespace behind descriptor netns;
// 0 is the engine's own. Entering another one needs CAP_SYS_ADMIN there and
// costs a few milliseconds (the kernel waits for a grace period).
func Open(netns int) (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{NetNS: netns, MessageBufferSize: receiveBuffer})
	if err != nil {
		return nil, fmt.Errorf("open a NETLINK_SOCK_DIAG socket (is CONFIG_INET_DIAG and CONFIG_UNIX_DIAG in the kernel?): %w", err)
	}
	return &Conn{nl}, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	if err := c.nl.Close(); err != nil {
		return fmt.Errorf("close a NETLINK_SOCK_DIAG socket: %w", err)
	}
	return nil
}

// each sends one SOCK_DIAG_BY_FAMILY request and calls fn with the body of
// every answer. The body is only valid during the call.
func (c *Conn) each(flags netlink.HeaderFlags, request []byte, fn func([]byte) error) error {
	_, err := c.nl.Send(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | flags},
		Data:   request,
	})
	if err != nil {
		return fmt.Errorf("ask sock_diag: %w", err)
	}
	var failed error
	for m, err := range c.nl.ReceiveIter() {
		if err != nil {
			return errors.Join(failed, explain(err))
		}
		// A dump is read to its end even after a failure: what is left
		// would be taken for the next answer.
		if failed == nil && m.Header.Type == unix.SOCK_DIAG_BY_FAMILY {
			failed = fn(m.Data)
		}
	}
	return failed
}

// explain adds what to do to the errors that have a remedy.
func explain(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("sock_diag: no such socket, or the kernel lacks a *_diag module for its family: %w", err)
	}
	return fmt.Errorf("sock_diag: %w", err)
}
