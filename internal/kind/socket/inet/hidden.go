package inet

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// checkHidden refuses what is attached to the socket and isn't among its
// options.
func (l *look) checkHidden() error {
	if l.alike() { // nothing is
		return nil
	}
	hidden, err := l.hidden(0)
	switch {
	case err != nil:
		return l.fail(err)
	case !hidden:
		return nil
	case l.datagrams():
		return l.checkGroups()
	}
	return l.checkKeys()
}

// hidden tells whether something is attached to the socket besides what is
// known, of which so many bytes are.
func (l *look) hidden(known uint32) (bool, error) {
	return l.opts.Hidden(l.optmem-min(l.optmem, known), l.more, l.like)
}

// otherNet tells whether the socket is of another network namespace than
// Glis's. A namespace has a cookie that no other one ever had: SO_NETNS_COOKIE of
// include/uapi/asm-generic/socket.h (Linux 5.14).
func (l *look) otherNet() (bool, error) {
	its, err := unix.GetsockoptUint64(l.fd.Int(), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return socket.OtherNet(l.fd.Int())
	}
	if l.kind.net == 0 {
		n, err := l.like()
		if err != nil {
			return false, fmt.Errorf("make a socket to compare with: %w", err)
		}
		defer unix.Close(n)
		if l.kind.net, err = unix.GetsockoptUint64(n, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
			return false, fmt.Errorf("read SO_NETNS_COOKIE: %w", err)
		}
	}
	return its != l.kind.net, nil
}

// lookInside returns, by descriptor, what the kernel's memory of a task's
// sockets tells. The bytes themselves aren't kept.
func (k *Kind) lookInside(t *scan.Task) (map[int32]sockmem.Socket, error) {
	if known := k.inside[t]; known != nil {
		return known, nil
	}
	r, done, err := k.reader()
	if err != nil {
		return nil, err
	}
	defer done() //nolint:errcheck // nothing was written
	found := map[int32]sockmem.Socket{}
	err = r.Each(t.Pidfd.Int(), func(s sockmem.Socket) error {
		s.File, s.Sock = nil, nil
		found[s.FD] = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	if k.inside == nil {
		k.inside = map[*scan.Task]map[int32]sockmem.Socket{}
	}
	k.inside[t] = found
	return found, nil
}

// reader returns what shows the kernel's memory, and what is to be called when
// that is done.
func (k *Kind) reader() (*sockmem.Reader, func() error, error) {
	if k.sockets != nil {
		return k.sockets.Reader, func() error { return nil }, nil
	}
	r, err := sockmem.Open()
	if err != nil {
		return nil, nil, err
	}
	return r, r.Close, nil
}
