package inet

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/sockmem"
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

// readCookies finds out which keys of TCP_FASTOPEN are the socket's own.
func (l *look) readCookies() error {
	if o := l.loneOf(); o != nil {
		return l.checkLoneCookies(o)
	}
	own, err := tcp.CookieKey(l.fd.Int())
	if err != nil || own == nil {
		return l.fail(err)
	}
	s := sort{family: l.family, protocol: l.protocol}
	common, known := l.kind.cookies[s]
	if !known {
		n, err := s.like()
		if err != nil {
			return l.fail(fmt.Errorf("make a socket to compare with: %w", err))
		}
		defer unix.Close(n)
		if common, err = tcp.CookieKey(n); err != nil {
			return l.fail(err)
		}
		l.kind.cookies[s] = common
	}
	if !bytes.Equal(own, common) {
		l.cookies = own
	}
	return nil
}

// checkLoneCookies refuses keys of a socket that only a message has, which nobody can ask.
func (l *look) checkLoneCookies(o *lone) error {
	var p sockmem.Picture
	if err := l.kind.picture(o.sk, &p); err != nil {
		return l.fail(err)
	}
	if p.Long[sockmem.FastopenKeys] != 0 {
		return l.refuse("it is only in a message that nobody can receive, and has keys of its own (TCP_FASTOPEN_KEY); let the server accept the connection")
	}
	return nil
}
