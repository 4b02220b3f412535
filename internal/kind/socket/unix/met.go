package unix

import (
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// The kernel calls a datagram socket connected (ESTABLISHED) that another one has
// connected to, also once that is closed, and no longer (CLOSE) as soon as one of those
// that are connected to it goes elsewhere. Of one with a peer of its own it is always the
// former, of one without a name and a peer the latter.

// wasMet tells whether the kernel calls a datagram socket without a peer connected.
func (l *look) wasMet() bool {
	return l.role == alone && l.u.Type == sys.SOCK_DGRAM && l.u.State == established && len(l.u.Name) > 0
}

// mayBeMet tells whether that is to be seen to, when all that are connected to a socket are.
func (n *node) mayBeMet() bool {
	return n.role == alone && n.typ == sys.SOCK_DGRAM && len(n.at.name) > 0 && (n.met || len(n.from) > 0)
}

// meet has a socket of ours connect to it, which is closed then, or leaves it before.
func (k *Kind) meet(_ *plan.Env, n *node, own *fd.FD) error {
	if !n.mayBeMet() {
		return nil
	}
	s, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer sys.Close(s)
	if err := connectTo(s, own.Int(), n.at.name); err != nil || n.met {
		return err
	}
	return disconnect(s)
}
