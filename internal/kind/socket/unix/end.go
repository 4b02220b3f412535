package unix

import (
	"errors"
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/scan"
)

// End implements kind.Ender. Sockets that are only in each other's queues are garbage
// when the tree has ended, some of which Linux 6.18 never finds: it has its names for
// ever, so that no restore could. So queues with sockets in them are emptied. Nobody
// but a process outside that has such a socket, too, could be told, and those of the
// tree that are connected to one are left alone. What is only in connections that wait is
// received first, as connections of TCP among it are to die silently.
func (k *Kind) End() error {
	var errs []error
	for ino, q := range k.queues {
		if f := k.picture.files[ino]; f != nil && k.unheld[ino] == nil && k.picture.abroad[ino] == alone && hold(q.messages, isSocket) {
			errs = append(errs, emptied(f, len(q.messages)))
		}
	}
	for ino, all := range k.arrived {
		for _, a := range all {
			if f := k.picture.files[ino]; f != nil && k.unheld[ino] == nil && hold(a.messages, anySocket) {
				errs = append(errs, k.answered(f))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// hold tells whether files of a sort are in messages.
func hold(all []*message, sort func(*scan.File) bool) bool {
	for _, m := range all {
		if slices.ContainsFunc(m.rights, sort) {
			return true
		}
	}
	return false
}

// anySocket tells whether a file is a socket, of whatever family.
func anySocket(f *scan.File) bool { return f.Stat.Mode&sys.S_IFMT == sys.S_IFSOCK }

// emptied takes all out of a queue of so many messages.
func emptied(f *scan.File, messages int) error {
	own, err := f.Borrow()
	if err != nil {
		return err
	}
	defer own.Close()
	if err := empty(own.Int(), messages, nil); err != nil {
		return fmt.Errorf("%v: empty its queue: %w", f, err)
	}
	return nil
}

// empty reads all. Descriptors are taken, if there is somebody to take them; else there
// is no room for them, and the kernel drops them.
func empty(own, messages int, take func(fd int) error) error {
	if err := sys.SetsockoptInt(own, sys.SOL_SOCKET, sys.SO_OOBINLINE, 1); err != nil && !errors.Is(err, sys.EOPNOTSUPP) {
		return fmt.Errorf("set SO_OOBINLINE: %w", err)
	}
	var room []byte
	if take != nil {
		room = make([]byte, mostControl)
	}
	buf := make([]byte, 64<<10)
	typ, err := sys.GetsockoptInt(own, sys.SOL_SOCKET, sys.SO_TYPE)
	if err != nil {
		return fmt.Errorf("read SO_TYPE: %w", err)
	}
	for odd := 0; odd <= messages+1; { // empty messages, and an error that waits
		n, control, _, _, err := sys.Recvmsg(own, buf, room, sys.MSG_DONTWAIT|sys.MSG_CMSG_CLOEXEC)
		if errors.Is(err, sys.EAGAIN) || err == nil && n == 0 && typ == sys.SOCK_STREAM {
			return nil
		}
		if err != nil || n == 0 {
			odd++
		}
		if err == nil && take != nil {
			if err := eachRight(room[:control], take); err != nil {
				return err
			}
		}
	}
	return nil
}

// mostControl is room for all that comes along with a message.
const mostControl = 8 << 10

// eachRight calls take with each descriptor that came along with a message, and closes it.
func eachRight(control []byte, take func(fd int) error) error {
	all, err := sys.ParseSocketControlMessage(control)
	if err != nil {
		return fmt.Errorf("parse what came along with a message: %w", err)
	}
	var errs []error
	for i := range all {
		if all[i].Header.Level != sys.SOL_SOCKET || all[i].Header.Type != sys.SCM_RIGHTS {
			continue
		}
		fds, err := sys.ParseUnixRights(&all[i])
		errs = append(errs, err)
		for _, n := range fds {
			errs = append(errs, take(n), sys.Close(n))
		}
	}
	return errors.Join(errs...)
}

// answered accepts what waits at a listener, and lets go of it.
func (k *Kind) answered(f *scan.File) (err error) {
	own, err := f.Borrow()
	if err != nil {
		return err
	}
	defer own.Close()
	if f.Flags&sys.O_NONBLOCK == 0 {
		defer func() { err = errors.Join(err, sys.SetNonblock(own.Int(), false)) }()
	}
	if err := k.accepted(own.Int()); err != nil {
		return fmt.Errorf("%v: %w", f, err)
	}
	return nil
}

// accepted accepts what waits at a listener, receives what is in it, and closes it.
// Somebody outside who has the same listener may be faster, so that accept(2) must not wait.
func (k *Kind) accepted(own int) error {
	if err := sys.SetNonblock(own, true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	for {
		n, _, err := sys.Accept4(own, sys.SOCK_CLOEXEC)
		if errors.Is(err, sys.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept what waits at it: %w", err)
		}
		if err := errors.Join(empty(n, k.longest(), k.letGo), sys.Close(n)); err != nil {
			return fmt.Errorf("let go of what waited at it: %w", err)
		}
	}
}

// longest is how many messages are in the longest queue.
func (k *Kind) longest() (most int) {
	for _, q := range k.queues {
		most = max(most, len(q.messages))
	}
	for _, all := range k.arrived {
		for _, a := range all {
			most = max(most, len(a.messages))
		}
	}
	return most
}

// letGo has what was only in a message die so that nobody hears of it: connections of TCP
// are repaired (TCP_REPAIR), and what is in unix sockets is received in turn.
func (k *Kind) letGo(fd int) error {
	var st sys.Stat_t
	if err := sys.Fstat(fd, &st); err != nil || st.Mode&sys.S_IFMT != sys.S_IFSOCK {
		return err
	}
	option := func(name int) int {
		v, err := sys.GetsockoptInt(fd, sys.SOL_SOCKET, name)
		if err != nil {
			return -1
		}
		return v
	}
	listens := option(sys.SO_ACCEPTCONN) == 1
	switch {
	case k.unheld[uint32(st.Ino)] != nil && listens:
		return k.accepted(fd)
	case k.unheld[uint32(st.Ino)] != nil:
		return empty(fd, k.longest(), k.letGo)
	case option(sys.SO_PROTOCOL) == sys.IPPROTO_TCP && !listens:
		if _, err := sys.Getpeername(fd); err != nil { // it is not connected
			return nil //nolint:nilerr // see there
		}
		if err := sys.SetsockoptInt(fd, sys.IPPROTO_TCP, sys.TCP_REPAIR, sys.TCP_REPAIR_ON); err != nil {
			return fmt.Errorf("set TCP_REPAIR of a connection that was in a message: %w", err)
		}
	}
	return nil
}
