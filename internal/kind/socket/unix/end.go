package unix

import (
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/scan"
)

// End implements kind.Ender. Sockets that are only in each other's queues are garbage
// when the tree has ended, some of which Linux 6.18 never finds: it has its names for
// ever, so that no restore could. So queues with sockets in them are emptied. Nobody
// but a process outside that has such a socket, too, could be told, and those of the
// tree that are connected to one are left alone. Such as are only in connections that wait
// go with those.
func (k *Kind) End() error {
	var errs []error
	for ino, q := range k.queues {
		if f := k.picture.files[ino]; f != nil && k.unheld[ino] == nil && k.picture.abroad[ino] == alone && holdSockets(q.messages) {
			errs = append(errs, emptied(f, len(q.messages)))
		}
	}
	for ino, all := range k.arrived {
		for _, a := range all {
			if f := k.picture.files[ino]; f != nil && k.unheld[ino] == nil && holdSockets(a.messages) {
				errs = append(errs, answered(f))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// holdSockets tells whether sockets are in messages.
func holdSockets(all []*message) bool {
	for _, m := range all {
		for _, f := range m.rights {
			if isSocket(f) {
				return true
			}
		}
	}
	return false
}

// emptied takes all out of a queue of so many messages.
func emptied(f *scan.File, messages int) error {
	own, err := f.Borrow()
	if err != nil {
		return err
	}
	defer own.Close()
	if err := empty(own.Int(), messages); err != nil {
		return fmt.Errorf("%v: empty its queue: %w", f, err)
	}
	return nil
}

// empty reads without room for descriptors, which the kernel drops then.
func empty(own, messages int) error {
	if err := sys.SetsockoptInt(own, sys.SOL_SOCKET, sys.SO_OOBINLINE, 1); err != nil && !errors.Is(err, sys.EOPNOTSUPP) {
		return fmt.Errorf("set SO_OOBINLINE: %w", err)
	}
	buf := make([]byte, 64<<10)
	for odd := 0; odd <= messages+1; { // empty messages, and an error that waits
		switch n, _, err := sys.Recvfrom(own, buf, sys.MSG_DONTWAIT); {
		case errors.Is(err, sys.EAGAIN):
			return nil
		case err != nil || n == 0:
			odd++
		}
	}
	return nil
}

// answered accepts what waits at a listener, and closes it. Somebody outside who has the
// same listener may be faster, so that accept(2) must not wait.
func answered(f *scan.File) (err error) {
	own, err := f.Borrow()
	if err != nil {
		return err
	}
	defer own.Close()
	if f.Flags&sys.O_NONBLOCK == 0 {
		if err := sys.SetNonblock(own.Int(), true); err != nil {
			return fmt.Errorf("%v: set O_NONBLOCK: %w", f, err)
		}
		defer func() { err = errors.Join(err, sys.SetNonblock(own.Int(), false)) }()
	}
	for {
		n, _, err := sys.Accept4(own.Int(), sys.SOCK_CLOEXEC)
		if errors.Is(err, sys.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%v: accept what waits at it: %w", f, err)
		}
		if err := sys.Close(n); err != nil {
			return fmt.Errorf("%v: close what waited at it: %w", f, err)
		}
	}
}
