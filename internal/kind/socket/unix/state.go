package unix

import (
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/sockdiag"
)

// States of a unix socket, see include/net/tcp_states.h.
const (
	established = 1
	closed      = 7
	listening   = 10
)

// Halves of a connection that are shut down, as sock_diag(7) and images have
// it: shutdown(2) counts from 0.
const (
	shutRead  = 1
	shutWrite = 2
	shutBoth  = 3
)

// role is what a socket is to be made as.
type role uint8

const (
	alone    role = iota // connected to nothing
	paired               // connected to a socket of the tree, which is connected to it
	orphan               // was paired; the peer is closed
	listener             // takes connections
)

// state returns a socket's role, or why it can't be carried over and what can
// be done.
func (p *picture) state(u *sockdiag.Unix) (role, string, error) {
	switch {
	case u.State == listening:
		return listener, "", nil
	case len(u.Name) > 0 && (u.State != closed || u.HasPeer):
		return 0, fmt.Sprintf("connected sockets with a name aren't supported yet (it is bound to %s); close the connection first", nameString(u.Name)), nil
	case u.State != established && u.State != closed:
		return 0, "no unix socket is known to have this state", nil
	case u.HasPeer && u.Peer != 0:
		return p.connected(u)
	case u.Type == sys.SOCK_DGRAM && u.HasPeer:
		return orphan, "", nil
	case u.Type == sys.SOCK_DGRAM || u.State == closed:
		return alone, "", nil
	case u.Shutdown == shutBoth:
		return orphan, "", nil
	}
	return 0, "its connection isn't accepted yet, and such connections aren't supported yet; wait until the server has accepted it", nil
}

// connected is state for a socket whose peer is open.
func (p *picture) connected(u *sockdiag.Unix) (role, string, error) {
	peer, err := p.get(u.Peer)
	if err != nil {
		return 0, "", err
	}
	switch {
	case u.Peer == u.Ino:
		return 0, "it is connected to itself, which isn't supported yet", nil
	case !p.tree[u.Peer]:
		return 0, outside(u, peer), nil
	case peer == nil || peer.Type != u.Type:
		return 0, fmt.Sprintf("its peer, socket %d, can't be looked at", u.Peer), nil
	case len(peer.Name) > 0:
		return 0, fmt.Sprintf("its peer is bound to %s, and connected sockets with a name aren't supported yet; close the connection first", nameString(peer.Name)), nil
	case peer.Peer != u.Ino:
		return 0, fmt.Sprintf("its peer, socket %d, isn't connected back to it, which isn't supported yet", u.Peer), nil
	}
	return paired, "", nil
}

// describe is a socket's family, type and state for messages.
func describe(u *sockdiag.Unix) string {
	return fmt.Sprintf("AF_UNIX %s in state %s", socket.TypeName(int(u.Type)), socket.StateName(int(u.State)))
}
