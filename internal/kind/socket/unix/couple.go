package unix

import (
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// Most sockets are ends of pairs that have nothing but data in their queues:
// the task that has them makes and fills them by itself. All others are made as
// in prepare.go.

// Limits of what is queued that way: all of it fits into a new socket's buffer.
const (
	coupleMessages = 16
	coupleData     = 32 << 10 // bytes, each way
)

// Couple implements plan.Coupled.
func (n *node) Couple(*plan.Env) (plan.ID, plan.Identity, bool) {
	o := n.peer
	if n.done || o == nil || o == n || n.typ == sys.SOCK_DGRAM || n.kind.learn() != nil {
		return 0, plan.Identity{}, false
	}
	if !n.alike(o) || n.flags != o.flags || n.kind.contents[n.id] || n.kind.contents[o.id] {
		return 0, plan.Identity{}, false
	}
	who := n.identity()
	return o.id, who, n.simple(&who) && o.simple(&who)
}

// simple tells whether one of a pair is like a new socket but for what is in its
// queue, and that can be sent as it is.
func (n *node) simple(who *plan.Identity) bool {
	switch {
	case n.role != paired, n.late, !n.usual(), n.pending != 0, n.shutdown != 0, len(n.at.name) > 0:
		return false
	case n.owner != (file.Owner{}), n.flags&^(sys.O_ACCMODE|sys.O_NONBLOCK) != 0:
		return false
	case n.inode != nil && (n.inode.GetUid() != who.UID || n.inode.GetGid() != who.GID || n.inode.GetMode() != socket.AllPermissions):
		return false
	case n.inode == nil && (who.UID != 0 || who.GID != 0):
		return false
	}
	return n.kind.kernel.Default(n.opts) && n.fits()
}

// fits tells whether what is queued can be sent in one go each, and takes as
// much memory then as it did.
func (n *node) fits() bool {
	if len(n.queue.messages) > coupleMessages {
		return false
	}
	took, length := uint32(0), 0
	for _, m := range n.queue.messages {
		if length += m.size(); !m.plain() || m.far != nil || length > coupleData {
			return false
		}
		size, err := n.kind.size(uint8(n.typ), m.size())
		if err != nil {
			return false
		}
		took += size
	}
	return n.typ != sys.SOCK_STREAM || took >= n.peer.sent || length == 0
}

// Make implements plan.Coupled.
func (n *node) Make(b plan.Batcher, cloexec bool, both uint64) {
	typ := n.typ | n.flags&sys.O_NONBLOCK
	if cloexec {
		typ |= sys.SOCK_CLOEXEC
	}
	b.Add("socketpair", sys.SYS_SOCKETPAIR, sys.AF_UNIX, uint64(typ), 0, both)
	n.claim()
}

// Equip implements plan.Coupled.
func (n *node) Equip(b plan.Batcher, own, other int32) {
	n.queue.queueFrom(b, other)
	n.peer.queue.queueFrom(b, own)
}

// queueFrom queues the calls that send all of it.
func (r *refill) queueFrom(b plan.Batcher, from int32) {
	for _, m := range r.messages {
		b.Add("sendto", sys.SYS_SENDTO, uint64(from), b.Put(m.data), uint64(len(m.data)), sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL, 0, 0)
	}
}
