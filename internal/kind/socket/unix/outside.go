package unix

import (
	"context"
	"errors"
	"fmt"

	sk_unix "glis.dev/glis/image/criu/sk-unix"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// planOutside takes the entry of a peer that was outside of the tree, and still
// is.
func (k *Kind) planOutside(u *sk_unix.UnixSkEntry) error {
	at, err := addressOf(u, nil)
	switch {
	case err != nil:
		return err
	case u.GetIno() == 0 || k.outside[u.GetIno()] != nil || k.nodes[u.GetIno()] != nil:
		return fmt.Errorf("socket %d, which is outside, can't be", u.GetIno())
	}
	k.outside[u.GetIno()] = &at
	return nil
}

// depart makes a socket one whose peer is outside, if it is: it is connected
// to that one's name again, or comes back as one whose peer is closed.
func (n *node) depart() error {
	at := n.kind.outside[n.peerIno]
	if at == nil || n.peerIno == 0 {
		return nil
	}
	if len(at.name) == 0 {
		n.role, n.peerIno = orphan, 0
		return nil
	}
	if o := n.plan.Options; o == nil || !o.ExtUnixSk.Allowed {
		return fmt.Errorf("%w: its peer was %v, outside of the tree; let Glis connect to that again by --ext-unix-sk, or hand in a socket by --inherit-fd 'fd[N]:socket:[%d]'", kind.ErrUnsupported, at, n.ino)
	}
	if n.typ != sys.SOCK_DGRAM && len(n.queue.messages) > 0 {
		return fmt.Errorf("%w: data from its peer %v, outside of the tree, waits to be read, and that can't be connected to again with it; hand in a socket by --inherit-fd 'fd[N]:socket:[%d]'", kind.ErrUnsupported, at, n.ino)
	}
	n.role, n.abroad, n.late = abroad, at, true
	return nil
}

// reconnect connects a socket to its peer outside of the tree.
func (k *Kind) reconnect(ctx context.Context, env *plan.Env, n *node, own *fd.FD) (err error) {
	if n.role != abroad {
		return nil
	}
	file, err := n.abroad.open()
	if err != nil {
		return err
	}
	if file != nil {
		defer file.Close()
	}
	// Nobody is to wait for a server that is too busy.
	if err := sys.SetNonblock(own.Int(), true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	defer func() { err = errors.Join(err, sys.SetNonblock(own.Int(), false)) }()
	if n.typ == sys.SOCK_DGRAM {
		return n.abroad.refused(linux.Connect(own.Int(), n.abroad.through(file)))
	}
	return n.abroad.refused(k.connectAs(ctx, env, n.identity(), n.abroad.name, file, []*fd.FD{own}))
}

// open opens the file that a path leads to; nil for an abstract name.
func (a *address) open() (*fd.FD, error) {
	if !isPath(a.name) {
		return nil, nil
	}
	var n int
	err := a.inPlace(func() (err error) {
		n, err = sys.Open(string(a.name), sys.O_PATH|sys.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, a.refused(err)
	}
	return fd.New(n), nil
}

// through is an address that leads to an open file, or to an abstract name.
func (a *address) through(file *fd.FD) []byte {
	if file == nil {
		return a.sockaddr()
	}
	return reachable(file.Int())
}

// refused says what to do if nobody is there.
func (a *address) refused(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sys.ENOENT) || errors.Is(err, sys.ECONNREFUSED) {
		return fmt.Errorf("connect to %v again (--ext-unix-sk): nobody is there; start that service first: %w", a, err)
	}
	return fmt.Errorf("connect to %v again (--ext-unix-sk): %w", a, err)
}
