package sockdiag

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// Conn is a NETLINK_SOCK_DIAG socket of one network namespace. It is not for
// use by several goroutines at once.
type Conn struct{ nl *linux.Netlink }

// Open opens a connection in the network namespace behind descriptor netns;
// 0 is the engine's own. Entering another one needs CAP_SYS_ADMIN there and
// costs a few milliseconds (the kernel waits for a grace period).
func Open(netns int) (*Conn, error) {
	nl, err := linux.DialNetlink(unix.NETLINK_SOCK_DIAG, netns)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return nil, fmt.Errorf("open a NETLINK_SOCK_DIAG socket (is CONFIG_INET_DIAG and CONFIG_UNIX_DIAG in the kernel?): %w", err)
	case err != nil:
		return nil, fmt.Errorf("open a NETLINK_SOCK_DIAG socket: %w", err)
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
	return c.ask(unix.SOCK_DIAG_BY_FAMILY, flags, request, fn)
}

// ask is each for any type of request.
func (c *Conn) ask(typ uint16, flags netlink.HeaderFlags, request []byte, fn func([]byte) error) error {
	var failed error
	err := c.nl.Ask(typ, flags, request, func(typ uint16, body []byte) error {
		if typ == unix.SOCK_DIAG_BY_FAMILY {
			failed = fn(body)
		}
		return failed
	})
	if failed != nil { // it is the first that err tells
		return err
	}
	return explain(err)
}

// explain adds what to do to the errors that have a remedy.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("sock_diag: no such socket, or the kernel lacks a *_diag module for its family: %w", err)
	}
	return fmt.Errorf("sock_diag: %w", err)
}
