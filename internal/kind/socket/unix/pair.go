package unix

import (
	"context"
	"errors"
	"fmt"
	"strings"

	sys "golang.org/x/sys/unix"

	sk_packet "glis.dev/glis/image/criu/sk-packet"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// node is a socket to be made again. Of a pair the node that was planned first
// makes both sockets; the second one takes its own and, since it is the one
// that needs the other, fills both queues.
type node struct {
	kind     *Kind
	plan     *plan.Plan
	id       plan.ID
	ino      uint32
	peerIno  uint32
	typ      int
	flags    int
	shutdown uint8
	owner    file.Owner
	opts     socket.Saved
	role     role
	pending  sys.Errno
	queue    refill
	sent     uint32 // bytes of the kernel's memory that what it sent takes
	at       address
	inode    *extra.SocketInode
	backlog  int                   // of a listener
	opened   *extra.SocketListener // a listener, if the images tell

	peer  *node
	first bool
	other *fd.FD // the other socket, until the peer takes it or it is closed
}

// join makes two nodes a pair; n is the later one.
func (n *node) join(peer *node) error {
	if peer.peerIno != n.ino || peer.peer != nil || peer.typ != n.typ {
		return fmt.Errorf("files.img: file %#x: unix socket: it is connected to file %#x, but that isn't to it: %w", uint32(n.id), uint32(peer.id), kind.ErrUnsupported)
	}
	n.peer, peer.peer, peer.first = peer, n, true
	return nil
}

// addQueue checks and takes what was queued at the socket.
func (n *node) addQueue(entries []plan.Entry) error {
	for i, e := range entries {
		m := e.Message.(*sk_packet.SkPacketEntry)
		if len(m.GetScm()) > 0 {
			return fmt.Errorf("message %d in its queue: %w: descriptors come along with it", i+1, kind.ErrUnsupported)
		}
		if uint64(m.GetLength()) != uint64(len(e.Payload)) {
			return fmt.Errorf("message %d in its queue: %d bytes of %d are there", i+1, len(e.Payload), m.GetLength())
		}
		n.queue.data = append(n.queue.data, e.Payload)
	}
	switch {
	case (n.role == alone || n.role == listener) && len(n.queue.data) > 0:
		return fmt.Errorf("%w: data is queued at it and nobody can have sent it", kind.ErrUnsupported)
	case n.pending != 0 && (n.role != orphan || n.typ != sys.SOCK_STREAM || n.pending != sys.ECONNRESET):
		return fmt.Errorf("%w: error %d (%v) waits to be reported", kind.ErrUnsupported, int(n.pending), n.pending)
	}
	return nil
}

// ID implements plan.Node.
func (n *node) ID() plan.ID { return n.id }

// Needs implements plan.Node.
func (n *node) Needs() []plan.ID {
	if n.peer != nil && !n.first {
		return []plan.ID{n.peer.id}
	}
	return nil
}

// String implements plan.Node.
func (n *node) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "unix %s", socket.TypeName(n.typ))
	switch {
	case n.role == listener:
		fmt.Fprintf(&b, ", listening at %v, backlog %d", &n.at, n.backlog)
	case len(n.at.name) > 0:
		fmt.Fprintf(&b, ", bound to %v", &n.at)
	case n.peer != nil:
		fmt.Fprintf(&b, ", connected to file %#x", uint32(n.peer.id))
	case n.role == orphan:
		b.WriteString(", its peer is closed")
	}
	if len(n.queue.data) > 0 {
		size := 0
		for _, m := range n.queue.data {
			size += len(m)
		}
		fmt.Fprintf(&b, ", %d bytes in %d messages", size, len(n.queue.data))
	}
	return b.String()
}

// Create implements plan.Node. The sockets get the peer credentials
// (SO_PEERCRED) of the engine, as they do with criu.
func (n *node) Create(context.Context, *plan.Env) (*fd.FD, error) {
	if n.peer != nil && !n.first {
		own := n.peer.other
		n.peer.other = nil
		if own == nil {
			return nil, fmt.Errorf("%v: the pair isn't made yet", n)
		}
		return own, nil
	}
	if n.role == alone || n.role == listener {
		s, err := sys.Socket(sys.AF_UNIX, n.typ|sys.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("%v: socket: %w", n, err)
		}
		return fd.New(s), nil
	}
	if n.role == paired && n.peer == nil {
		return nil, fmt.Errorf("%v: its peer, socket %d, is missing", n, n.peerIno)
	}
	// The peer of a pair is only made when a task is given it.
	if n.role == paired && len(n.plan.Users(n.id)) > 0 && len(n.plan.Users(n.peer.id)) == 0 {
		return nil, fmt.Errorf("%v: no task has the peer as a descriptor", n)
	}
	pair, err := sys.Socketpair(sys.AF_UNIX, n.typ|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%v: socketpair: %w", n, err)
	}
	n.other = fd.New(pair[1])
	return fd.New(pair[0]), nil
}

// Fill implements plan.Filler.
func (n *node) Fill(_ context.Context, env *plan.Env, own *fd.FD) error {
	if n.peer != nil && n.first {
		return nil
	}
	if err := n.kind.learn(); err != nil {
		return fmt.Errorf("%v: %w", n, err)
	}
	var err error
	switch n.role {
	case paired:
		err = n.fillPair(env, own)
	case orphan:
		err = n.fillOrphan(own)
	default:
		err = n.finish(own)
	}
	if err != nil {
		return fmt.Errorf("%v: %w", n, err)
	}
	return nil
}

// fillPair fills both queues before it sets anything, since options and
// shutdown(2) of either end get in the way of sending.
func (n *node) fillPair(env *plan.Env, own *fd.FD) error {
	other, err := env.File(n.peer.id)
	if err != nil {
		return err
	}
	n.queue.memory, n.peer.queue.memory = n.peer.sent, n.sent
	here, there := sender{fd: own.Int()}, sender{fd: other.Int()}
	if err := n.queue.send(n.kind, &there, here.fd); err != nil {
		return err
	}
	if err := n.peer.queue.send(n.kind, &here, there.fd); err != nil {
		return err
	}
	if err := n.set(own, here.touched()); err != nil {
		return err
	}
	if err := n.peer.set(other, there.touched()); err != nil {
		return err
	}
	return errors.Join(n.shut(own), n.peer.shut(other))
}

// fillOrphan fills the queue of a socket whose peer is closed, and closes the
// peer. If that has something left to read, the socket gets ECONNRESET.
func (n *node) fillOrphan(own *fd.FD) error {
	s := sender{fd: n.other.Int()}
	if err := n.queue.send(n.kind, &s, own.Int()); err != nil {
		return err
	}
	if n.pending == sys.ECONNRESET {
		if err := (&sender{fd: own.Int()}).send([]byte{0}, true); err != nil {
			return err
		}
	}
	if err := n.other.Close(); err != nil {
		return err
	}
	n.other = nil
	return n.finish(own)
}

func (n *node) finish(own *fd.FD) error {
	if err := n.set(own, nil); err != nil {
		return err
	}
	if err := n.at.bind(own.Int()); err != nil {
		return err
	}
	if err := n.listen(own.Int()); err != nil {
		return err
	}
	return n.shut(own)
}

// set brings options, flags and owner back.
func (n *node) set(own *fd.FD, touched []string) error {
	k := n.kind.kernel
	if err := socket.SetInode(own.Int(), n.inode); err != nil {
		return err
	}
	if err := k.Set(own.Int(), n.opts.Values, socket.Early, socket.Late, touched...); err != nil {
		return err
	}
	if err := socket.Attach(own.Int(), n.opts.Entry); err != nil {
		return err
	}
	if err := k.Set(own.Int(), n.opts.Values, socket.Last, socket.Last); err != nil {
		return err
	}
	if err := n.owner.Set(own); err != nil {
		return err
	}
	if flags := n.flags &^ sys.O_ACCMODE; flags != 0 {
		if _, err := sys.FcntlInt(uintptr(own.Int()), sys.F_SETFL, flags); err != nil {
			return fmt.Errorf("set flags %#x: %w", flags, err)
		}
	}
	return nil
}

// shut shuts halves of the connection down. What the peer's shutdown did to
// this end happens again by itself.
func (n *node) shut(own *fd.FD) error {
	if n.shutdown == 0 || n.role == orphan && n.typ != sys.SOCK_DGRAM {
		return nil
	}
	how := int(n.shutdown) - 1 // SHUT_RD, SHUT_WR, SHUT_RDWR
	if err := sys.Shutdown(own.Int(), how); err != nil {
		return fmt.Errorf("shutdown %d: %w", how, err)
	}
	return nil
}
