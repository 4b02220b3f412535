package unix

import (
	"context"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// arrival is a connection to be made that then waits at a listener.
type arrival struct {
	from   plan.ID // the client, 0 if it is closed
	client *node
	name   []byte         // of a client that is closed
	who    *plan.Identity // who connected; nil if the images don't tell
	early  uint8          // halves of its client that are shut down before it connects
	pass   int            // options of the listener at that time, -1 if they don't count
	queue  refill
}

// addArrivals checks and takes what waits at a listener.
func (n *node) addArrivals(entries []plan.Entry) error {
	if len(entries) > 0 && n.role != listener {
		return fmt.Errorf("connections wait at it, and it doesn't listen")
	}
	for i, e := range entries {
		a, err := n.newArrival(e.Message.(*extra.WaitingConnection))
		if err != nil {
			return fmt.Errorf("connection %d that waits at it: %w", i+1, err)
		}
		n.arrivals, n.late = append(n.arrivals, a), true
	}
	return nil
}

func (n *node) newArrival(e *extra.WaitingConnection) (*arrival, error) {
	data := e.GetData()
	a := &arrival{from: plan.ID(e.GetClient()), name: e.GetName(), pass: -1, early: uint8(e.GetEarly() & 3), queue: refill{typ: n.typ}}
	if e.Passing != nil {
		a.pass = int(e.GetPassing() & 0xf)
	}
	who := uint64(e.GetWho())
	switch {
	case who == 0 || who > uint64(len(n.kind.identities)):
		return nil, fmt.Errorf("identity %d made it, and there are %d", who, len(n.kind.identities))
	case len(a.name) > 0 && (a.from != 0 || checkName(a.name) != nil):
		return nil, fmt.Errorf("%.120q can't be its client's name", a.name)
	}
	a.who = n.kind.identities[who-1]
	for i, x := range e.GetMessages() {
		if uint64(x.GetLength()) > uint64(len(data)) {
			return nil, fmt.Errorf("message %d is cut", i+1)
		}
		m := &queuedMessage{data: data[:x.GetLength()], who: credentialsOf(x.GetWho())}
		data = data[x.GetLength():]
		for _, id := range x.GetFiles() {
			m.rights = append(m.rights, plan.ID(id))
		}
		if x.GetUrgent() {
			m.urgent = urgentWaits
		}
		if err := m.check(n); err != nil {
			return nil, fmt.Errorf("message %d: %w", i+1, err)
		}
		a.queue.messages = append(a.queue.messages, m)
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%d bytes more than its messages have", len(data))
	}
	return a, nil
}

// resolveArrivals finds the clients that wait at a listener. Images of criu
// name only the listener at each client.
func (k *Kind) resolveArrivals(n *node) error {
	for i, a := range n.arrivals {
		if a.from == 0 {
			continue
		}
		c := k.called(a.from)
		if c == nil || c.listener != n || c.arrival != nil {
			return fmt.Errorf("connection %d that waits at it: its client, file %#x, is missing", i+1, uint32(a.from))
		}
		if a.early&^c.shutdown != 0 {
			return fmt.Errorf("connection %d that waits at it: its client, file %#x, was not shut down", i+1, uint32(a.from))
		}
		a.client, c.arrival = c, a
	}
	for i, a := range n.arrivals {
		for _, m := range a.queue.messages {
			for _, id := range m.rights {
				if n.plan.Node(id) == nil {
					return fmt.Errorf("connection %d that waits at it: file %#x, which comes along, is missing", i+1, uint32(id))
				}
				k.contents[id] = true
			}
		}
	}
	return nil
}

// await makes a socket a client that waits, if that is what it is connected to.
func (n *node) await() error {
	if n.peer != nil {
		return nil
	}
	peer := n.kind.nodes[n.peerIno]
	if peer == nil || peer.role != listener {
		return nil
	}
	if n.typ != peer.typ || n.role != paired || len(n.queue.messages) > 0 {
		return fmt.Errorf("it can't be connected to file %#x, which listens", uint32(peer.id))
	}
	n.role, n.listener, n.late, peer.late = waits, peer, true, true
	return nil
}

// adopt lets a client wait that no arrival is told of.
func (n *node) adopt() {
	if n.role != waits || n.arrival != nil {
		return
	}
	n.arrival = &arrival{from: n.id, client: n, pass: -1, queue: refill{typ: n.typ}}
	n.listener.arrivals = append(n.listener.arrivals, n.arrival)
}

// held is the files that have to be there.
func (a *arrival) held() []plan.ID {
	var out []plan.ID
	if a.client != nil {
		out = append(out, a.client.id)
	}
	for _, m := range a.queue.messages {
		out = append(out, m.rights...)
	}
	return out
}

// arrive connects what waits at a listener, in order, and sends what was sent.
// For a while the listener has room for all.
func (k *Kind) arrive(ctx context.Context, env *plan.Env, n *node, own *fd.FD) error {
	if len(n.arrivals) == 0 {
		return nil
	}
	listens := (*plan.Identity)(nil)
	for i, a := range n.arrivals {
		who := n.identity()
		if a.client != nil && a.client.who != nil {
			who = *a.client.who
		}
		if listens == nil || !same(*listens, who) {
			if err := k.listenAs(ctx, env, who, own.Int(), max(n.backlog, len(n.arrivals), mayWait())); err != nil {
				return err
			}
			listens = &who
		}
		if err := k.arriveOne(ctx, env, n, own, a); err != nil {
			return fmt.Errorf("connection %d that waits at it: %w", i+1, err)
		}
	}
	return k.listenAs(ctx, env, n.identity(), own.Int(), n.backlog)
}

// passes are the options of which a connection has what its listener had, in
// the order of arrival.pass.
var passes = [...]int{sys.SO_PASSCRED, sys.SO_PASSSEC, sys.SO_PASSPIDFD, soPassRights}

// prepare gives the listener the options it had.
func (a *arrival) prepare(door *fd.FD) error { return setPassing(door.Int(), a.pass) }

// setPassing sets these options; -1 is none of them.
func setPassing(own, pass int) error {
	if pass < 0 {
		return nil
	}
	for i, opt := range passes {
		err := sys.SetsockoptInt(own, sys.SOL_SOCKET, opt, pass>>i&1)
		if err != nil && !errors.Is(err, sys.ENOPROTOOPT) {
			return fmt.Errorf("set option %d to %d: %w", opt, pass>>i&1, err)
		}
	}
	return nil
}

func same(a, b plan.Identity) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func (k *Kind) arriveOne(ctx context.Context, env *plan.Env, n *node, door *fd.FD, a *arrival) (err error) {
	own, raised, done, err := k.caller(env, n, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := a.prepare(door); err != nil {
		return err
	}
	if a.early != 0 && a.client != nil {
		if err := shutdown(own, a.early); err != nil {
			return err
		}
		a.client.shutdown &^= a.early
	}
	one := []*fd.FD{own} // the limit of connections may be lower than it was
	if err := unhurried(one, func() error { return k.connect(ctx, env, a.identity(n), door, n.at.name, one) }); err != nil {
		return err
	}
	return a.queue.sendIn(env, &sender{fd: own.Int(), raised: raised}, -1, maxPiece)
}

// identity returns who connects: a task that has the client, if the images
// don't tell, or who did is outside of the tree.
func (a *arrival) identity(n *node) plan.Identity {
	who := n.kind.self
	if a.who != nil {
		who = *a.who
	}
	for _, o := range []*node{a.client, n} {
		if who.PID == 0 && o != nil {
			if users := o.plan.Users(o.id); len(users) > 0 {
				who.PID = users[0].Task
			}
		}
	}
	return who
}

// caller returns the socket that connects, one in place of a client that is
// closed.
func (k *Kind) caller(env *plan.Env, n *node, a *arrival) (own *fd.FD, raised *bool, done func() error, err error) {
	if a.client != nil {
		own, err = env.File(a.client.id)
		return own, &a.client.raised, func() error { return nil }, err
	}
	s, err := sys.Socket(sys.AF_UNIX, n.typ|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("socket: %w", err)
	}
	own = fd.New(s)
	if err := k.temporarily(s, a.name); err != nil {
		return nil, nil, nil, errors.Join(err, own.Close())
	}
	return own, new(bool), own.Close, nil
}
