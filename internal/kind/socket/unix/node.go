package unix

import (
	"context"
	"fmt"
	"strings"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// node is a socket to be made again. Of a pair both sockets are made at once;
// the one that was planned later needs the other, and fills both queues.
type node struct {
	// What is looked at of each comes first, all in one line of a CPU's cache: there
	// may be very many.
	id       plan.ID
	ino      uint32
	peerIno  uint32
	role     role
	shutdown uint8
	early    uint8 // halves that were shut down before it connected, which its peer doesn't know
	first    bool  // of a pair
	late     bool  // its queue waits for other files
	done     bool  // it is made
	typ      int
	flags    int
	peer     *node
	more     *extra.SocketEntry // nil: nothing
	made     *fd.FD             // until Create gives it out
	mate     *fd.FD             // the other end, if no node has it, until it is closed

	kind     *Kind
	plan     *plan.Plan
	owner    file.Owner
	opts     socket.Saved
	pending  sys.Errno
	queue    refill
	met      bool   // the kernel calls it connected, see met.go
	sent     uint32 // bytes of the kernel's memory that what it sent takes
	at       address
	inode    *extra.SocketInode
	backlog  int            // of a listener
	who      *plan.Identity // its peer is, or who listened; nil if nobody or if the images don't tell
	peerName []byte         // of a peer that is closed

	abroad   *address   // of its peer, which is outside of the tree
	arrivals []*arrival // that wait at it, of a listener
	listener *node      // that it waits at
	arrival  *arrival   // as which it waits there
	after    []*node    // listeners at which clients wait who had its name, see orderNames
	heirs    []*node    // whose peers were called as it is now, and are closed
	lent     bool       // others need its name, for a moment, when they are made
	ordered  progress   // the same has been looked at for them
	settled  bool       // it has its name, and what waits at it

	partner *node   // it is made with by socketpair(2), of datagram sockets
	from    []*node // other datagram sockets that are connected to it
	heard   []*node // those that it has messages of, or that have some of it, and one of both has no name

	// mateName is the name that its messages have, if nobody is connected to it any more.
	mateName []byte
	born     bool // it was made connected to its partner
	leaves   bool // it isn't connected to that any more, or anew
	wired    bool // a datagram socket that is connected as it should be
	raised   bool // its buffer size isn't what it was
}

// join makes the node and its peer a pair, if it has one and isn't in one already; it
// is the one that was planned first then.
func (n *node) join() error {
	if n.peer != nil || n.typ == sys.SOCK_DGRAM || n.peerIno == 0 {
		return nil
	}
	peer := n.kind.nodes[n.peerIno]
	if peer == nil || peer.role == listener {
		return nil
	}
	if peer.peerIno != n.ino || peer.peer != nil || peer.typ != n.typ {
		return fmt.Errorf("it is connected to file %#x, but that isn't to it: %w", uint32(peer.id), kind.ErrUnsupported)
	}
	n.peer, peer.peer, n.first = peer, n, true
	return nil
}

// addQueue checks and takes what was queued at the socket.
func (n *node) addQueue(entries []plan.Entry) error {
	for i, e := range entries {
		m, err := n.message(e)
		if err != nil {
			return fmt.Errorf("message %d in its queue: %w", i+1, err)
		}
		n.queue.messages = append(n.queue.messages, m)
	}
	switch {
	case n.role == listener && len(entries) > 0:
		return fmt.Errorf("%w: data is queued at it and nobody can have sent it", kind.ErrUnsupported)
	case n.pending != 0 && (n.role != orphan && n.typ != sys.SOCK_DGRAM || n.pending != sys.ECONNRESET):
		return fmt.Errorf("%w: error %d (%v) waits to be reported", kind.ErrUnsupported, int(n.pending), n.pending)
	}
	return nil
}

// ID implements plan.Node.
func (n *node) ID() plan.ID { return n.id }

// FileFlags implements plan.Async.
func (n *node) FileFlags() uint32 { return uint32(n.flags) }

// Needs implements plan.Node.
func (n *node) Needs() []plan.ID {
	if n.immediate() && n.peer != nil && !n.first && n.peer != n {
		return []plan.ID{n.peer.id}
	}
	return nil
}

// immediate tells whether the socket is filled when both ends of a pair exist.
func (n *node) immediate() bool { return !n.late }

// String implements plan.Node.
func (n *node) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "unix %s", socket.TypeName(n.typ))
	switch {
	case n.role == listener:
		fmt.Fprintf(&b, ", listening at %v, backlog %d", &n.at, n.backlog)
	case len(n.at.name) > 0 && n.at.accepted:
		fmt.Fprintf(&b, ", accepted at %v", &n.at)
	case len(n.at.name) > 0:
		fmt.Fprintf(&b, ", bound to %v", &n.at)
	}
	switch {
	case n.peer != nil:
		fmt.Fprintf(&b, ", connected to file %#x", uint32(n.peer.id))
	case n.role == orphan:
		b.WriteString(", its peer is closed")
	case n.role == abroad:
		fmt.Fprintf(&b, ", connected to %v, outside of the tree", n.abroad)
	case n.role == waits:
		fmt.Fprintf(&b, ", waits to be accepted by file %#x", uint32(n.listener.id))
	case len(n.arrivals) > 0:
		b.WriteString(", " + socket.Unaccepted(len(n.arrivals)))
	}
	if len(n.queue.messages) > 0 {
		size, files := 0, 0
		for _, m := range n.queue.messages {
			size += m.size()
			files += len(m.rights)
		}
		fmt.Fprintf(&b, ", %d bytes in %d messages", size, len(n.queue.messages))
		if files > 0 {
			fmt.Fprintf(&b, " with %d files", files)
		}
	}
	return b.String()
}

// Check implements plan.Checked: of a pair that no task has an end of, nothing
// would make the other one whole.
func (n *node) Check(*plan.CheckEnv) error {
	has := func(n *node) bool { return len(n.plan.Users(n.id)) > 0 || n.kind.contents[n.id] }
	if n.peer != nil && has(n) && !has(n.peer) {
		return fmt.Errorf("%v: nobody has the peer, neither as a descriptor nor in a queue", n)
	}
	return socket.FindProgram(n.more.GetFilter())
}

// Create implements plan.Node.
func (n *node) Create(ctx context.Context, env *plan.Env) (*fd.FD, error) {
	if !n.done {
		if err := n.kind.prepare(ctx, env, []*node{n}); err != nil {
			return nil, fmt.Errorf("%v: %w", n, err)
		}
	}
	own := n.made
	n.made = nil
	if own == nil {
		return nil, fmt.Errorf("%v: it was made before", n)
	}
	return own, nil
}

// Prepare implements plan.Prepared.
func (n *node) Prepare(ctx context.Context, env *plan.Env, with []plan.Node) error {
	if n.done {
		return nil
	}
	var all []*node
	for _, o := range with {
		if x, ok := o.(*node); ok {
			all = append(all, x)
		}
	}
	return n.kind.prepare(ctx, env, all)
}

// Drop implements plan.Dropper.
func (n *node) Drop() {
	for _, d := range []*fd.FD{n.made, n.mate} {
		if d != nil {
			d.Close()
		}
	}
	n.made, n.mate = nil, nil
	if n.kind.room != nil {
		n.kind.room.close()
		n.kind.room = nil
	}
}

// identity returns who makes the socket: a task that has it, if the process
// that did is outside of the tree.
func (n *node) identity() plan.Identity {
	who := n.kind.self
	if n.who != nil {
		who = *n.who
	}
	for _, o := range []*node{n, n.peer} {
		if who.PID == 0 && o != nil {
			if users := n.plan.Users(o.id); len(users) > 0 {
				who.PID = users[0].Task
			}
		}
	}
	return who
}
