package unix

import (
	"errors"
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
	paired               // connected to a socket of the tree; of datagrams also one-way, or to itself
	orphan               // was connected; the peer is closed
	listener             // takes connections
	waits                // is connected to a listener that hasn't accepted it yet
	abroad               // connected to a socket outside of the tree
)

// state returns a socket's role, or why it can't be carried over and what can
// be done.
func (p *picture) state(u *sockdiag.Unix) (role, string, error) {
	switch {
	case u.State == listening:
		return listener, "", nil
	case u.State != established && u.State != closed:
		return 0, "no unix socket is known to have this state", nil
	case u.HasPeer && u.Peer != 0:
		return p.connected(u)
	case u.Type == sys.SOCK_DGRAM && u.HasPeer:
		return orphan, "", nil
	case u.Type == sys.SOCK_DGRAM || u.State == closed:
		return alone, "", nil
	}
	if p.waiting[u.Ino] != 0 {
		return waits, "", nil
	}
	abroad, err := p.waits(u)
	switch {
	case err != nil:
		return 0, "", err
	case u.Shutdown == shutBoth && !abroad:
		return orphan, "", nil
	}
	return 0, "the server it is connected to is outside of the tree, and hasn't accepted it yet; wait until it has", nil
}

// connected is state for a socket whose peer is open.
func (p *picture) connected(u *sockdiag.Unix) (role, string, error) {
	peer, err := p.get(u.Peer)
	if err != nil {
		return 0, "", err
	}
	switch {
	case !p.tree[u.Peer] && p.abroad[u.Ino] != alone:
		return p.abroad[u.Ino], "", nil
	case !p.tree[u.Peer]:
		return 0, outside(u, peer), nil
	case peer == nil || peer.Type != u.Type:
		return 0, fmt.Sprintf("its peer, socket %d, can't be looked at", u.Peer), nil
	case u.Type != sys.SOCK_DGRAM && peer.Peer != u.Ino:
		return 0, fmt.Sprintf("its peer, socket %d, isn't connected back to it, which can't be", u.Peer), nil
	}
	return paired, "", nil
}

// waits tells whether a socket is a client that waits to be accepted, by
// whomever.
func (p *picture) waits(u *sockdiag.Unix) (bool, error) {
	if err := p.all(); err != nil {
		return false, err
	}
	if p.clients == nil {
		if err := p.open(p.askClients); err != nil {
			return false, err
		}
	}
	return p.clients[u.Ino], nil
}

// askClients asks for all that wait to be accepted.
func (p *picture) askClients(c *sockdiag.Conn) error {
	told, clients := map[uint32]bool{}, map[uint32]bool{}
	err := c.EachListener(sockdiag.ShowIcons, func(l *sockdiag.Unix) error {
		told[l.Ino] = true
		for _, ino := range l.Icons {
			clients[ino] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for ino, l := range p.socks {
		if l == nil || l.State != listening || l.RQueue == 0 || p.tree[ino] || told[ino] {
			continue
		}
		if _, err := c.Unix(ino, 0, 0); !errors.Is(err, sys.ENOENT) { // it isn't closed since
			return fmt.Errorf("which clients wait at socket %d, %s, which isn't in the tree, the kernel doesn't tell: it or another one has too many (%d here); let its server accept them", ino, nameString(l.Name), l.RQueue)
		}
	}
	p.clients = clients
	return nil
}

// listens tells whether a socket of this name and type listens.
func (p *picture) listens(typ uint8, name []byte) bool {
	if len(name) == 0 || p.all() != nil {
		return false
	}
	if p.listeners == nil {
		p.listeners = map[string]bool{}
		for _, u := range p.socks {
			if u != nil && u.State == listening {
				p.listeners[string(append([]byte{u.Type}, u.Name...))] = true
			}
		}
	}
	return p.listeners[string(append([]byte{typ}, name...))]
}

// accepted tells whether a connected socket's name is not its own but that of
// the listener it was accepted from. peer is its peer's name. A client of a
// listener is never accepted itself.
//
// If neither's listener is there any more, an abstract name is a socket's own
// if nobody can be bound to it; if others have it, too, that is errWhose. Of a path,
// owns tells it.
func (p *picture) accepted(u *sockdiag.Unix, peer []byte) (bool, error) {
	switch {
	case len(u.Name) == 0 || u.Type == sys.SOCK_DGRAM:
		return false, nil
	case p.listens(u.Type, u.Name):
		return true, nil
	case p.listens(u.Type, peer):
		return false, nil
	case isPath(u.Name):
		return false, nil // see look.owns
	}
	for _, o := range p.called(u.Type, u.Name) {
		if o.Ino != u.Ino {
			return others(u)
		}
	}
	taken, err := taken(u.Type, u.Name)
	return !taken, err
}

// others is accepted for a socket whose name others have, too.
func others(u *sockdiag.Unix) (bool, error) {
	taken, err := taken(u.Type, u.Name)
	if err == nil && taken {
		err = errWhose
	}
	return true, err
}

// taken tells whether a socket is bound to an abstract name, by binding one
// for a moment.
func taken(typ uint8, name []byte) (bool, error) {
	n, err := sys.Socket(sys.AF_UNIX, int(typ)|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("make a socket to look whether %s is taken: %w", nameString(name), err)
	}
	defer sys.Close(n)
	err = bindRaw(n, name)
	if err == sys.EADDRINUSE {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether %s is taken: %w", nameString(name), err)
	}
	return false, nil
}

// describe is a socket's family, type and state for messages.
func describe(u *sockdiag.Unix) string {
	return fmt.Sprintf("AF_UNIX %s in state %s", socket.TypeName(int(u.Type)), socket.StateName(int(u.State)))
}
