package unix

import (
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/sockdiag"
)

// What criu's entry says otherwise than it is: criu would end with an error, or
// wait for ever, where it can restore all the rest. Glis takes what is in e.

// peerFor returns the inode of a socket's peer as criu's entry has it.
//
// criu connects one datagram socket after the other, by name, unless each is the
// other's peer. It would fail at those of one that is connected itself, which takes no
// connection but its peer's, so it is to leave that one unconnected; and wait for ever
// for a peer without a name, which only who was made with it is connected to.
func (k *Kind) peerFor(l *look, e *extra.SocketEntry) (uint32, error) {
	n := k.picture.peerNumber(l.u)
	if l.u.Type != sys.SOCK_DGRAM || l.role != paired {
		return n, nil
	}
	peer, err := k.picture.get(n)
	if err != nil || peer == nil {
		return n, l.fail(err)
	}
	if !k.picture.taking(l.u) && (len(peer.Name) > 0 || peer.Peer == l.u.Ino) {
		return n, nil
	}
	e.Peer = &n
	return 0, nil
}

// backlogFor returns a listener's backlog as criu's entry has it: criu connects those
// that wait, and would wait itself if there is no room.
func (k *Kind) backlogFor(l *look, e *extra.SocketEntry) *uint32 {
	n := uint32(0)
	for _, a := range k.arrived[l.u.Ino] {
		if a.client != nil {
			n++
		}
	}
	if l.role != listener || n <= l.u.WQueue {
		return &l.u.WQueue
	}
	e.Backlog = &l.u.WQueue
	return &n
}

// taking tells whether others than its own peer are connected to a datagram socket
// that is connected itself.
func (p *picture) taking(u *sockdiag.Unix) bool {
	return slices.ContainsFunc(p.aimed(u), func(from uint32) bool { return from != u.Peer })
}

// aimed returns the datagram sockets of the tree that are connected to one, in order.
func (p *picture) aimed(u *sockdiag.Unix) []uint32 {
	if p.aims == nil {
		p.aims = map[uint32][]uint32{}
		for ino := range p.files {
			if o := p.socks[ino]; o != nil && o.Type == sys.SOCK_DGRAM && o.Peer != 0 {
				p.aims[o.Peer] = append(p.aims[o.Peer], ino)
			}
		}
		for _, from := range p.aims {
			slices.Sort(from)
		}
	}
	return p.aims[u.Ino]
}

// connection takes who a socket is connected to, and for how many connections it has
// room, from criu's entry or from what says otherwise.
func (n *node) connection(u *sk_unix.UnixSkEntry, x *extra.SocketEntry) error {
	n.peerIno, n.backlog = u.GetPeer(), int(u.GetBacklog())
	if x != nil && x.Peer != nil {
		if n.typ != sys.SOCK_DGRAM || n.peerIno != 0 || x.GetPeer() == 0 {
			return fmt.Errorf("it is connected to socket %d and to socket %d: that can't be", n.peerIno, x.GetPeer())
		}
		n.peerIno = x.GetPeer()
	}
	n.role = roleOf(u, n.peerIno)
	if x != nil && x.Backlog != nil {
		if n.role != listener || x.GetBacklog() > u.GetBacklog() {
			return fmt.Errorf("a backlog of %d that criu is to take for %d can't be", x.GetBacklog(), u.GetBacklog())
		}
		n.backlog = int(x.GetBacklog())
	}
	return nil
}
