package unix

import (
	"errors"
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// Who sends to a datagram socket, and when, depends on who is connected to whom
// at that time: a socket without a name only gets what is sent by who was made with
// it by socketpair(2), as long as that one is connected to it; one that
// is connected takes nothing from others; and one that leaves its peer loses all that is in its
// queue, for which the peer gets ECONNRESET, unless it was empty. The next call
// of that one takes the error away. So all of it has to happen in an order in
// which it can have happened before: each step asks for those that it needs.

// errOrder says that there is no such order.
var errOrder = errors.New("datagram sockets have messages and errors of each other that can't have come about in any order")

// turns is the work on the datagram sockets of a restore.
type turns struct {
	kind   *Kind
	env    *plan.Env
	sent   map[*node][]mail  // what each has sent
	filled map[*node]int     // messages that are in its queue
	state  map[turn]progress // of all else
	ghosts map[string]*fd.FD // senders that are closed, by name
}

// mail is a message in a queue.
type mail struct {
	to    *node
	index int
}

// turn is one thing that has to be done for a socket.
type turn struct {
	node *node
	what deed
}

type deed uint8

const (
	leaving deed = iota // it leaves its partner
	failing             // it gets its error
	wiring              // it is connected
	filling
	naming // it gets its name, which others had
)

type progress uint8

const (
	begun progress = iota + 1
	over
)

func newTurns(k *Kind, env *plan.Env) *turns {
	t := &turns{kind: k, env: env, sent: map[*node][]mail{}, filled: map[*node]int{}, state: map[turn]progress{}, ghosts: map[string]*fd.FD{}}
	for _, n := range k.order {
		if n.typ != sys.SOCK_DGRAM || !n.late {
			continue
		}
		for i, m := range n.queue.messages {
			if s := n.senderOf(m); s != nil {
				t.sent[s] = append(t.sent[s], mail{n, i})
			}
		}
	}
	return t
}

// senderOf returns the node that sends a message; nil if that is none.
func (n *node) senderOf(m *queuedMessage) *node {
	if m.sender == nil && !m.gone {
		return n.peer
	}
	return m.sender
}

// all does everything for one socket.
func (t *turns) all(n *node) error {
	for _, what := range []deed{naming, leaving, failing, filling, wiring} {
		if err := t.do(n, what); err != nil {
			return err
		}
	}
	return nil
}

// do does one thing, after all that has to come before, unless it is done.
func (t *turns) do(n *node, what deed) error {
	if what == filling {
		return t.fill(n, len(n.queue.messages))
	}
	switch t.state[turn{n, what}] {
	case over:
		return nil
	case begun:
		if what == wiring {
			return nil // two that are connected to each other
		}
		return errOrder
	}
	t.state[turn{n, what}] = begun
	err := map[deed]func(*node) error{leaving: t.leave, failing: t.fail, wiring: t.wire, naming: t.name}[what](n)
	t.state[turn{n, what}] = over
	return err
}

// name gives a socket the abstract name that those had whom others were connected to, or
// made with, and that are closed: first all that is done by that name.
func (t *turns) name(n *node) error {
	if !n.lent {
		return nil
	}
	for _, o := range n.heirs {
		if !o.late {
			continue
		}
		if err := t.all(o); err != nil {
			return fmt.Errorf("%v: %w", o, err)
		}
		if err := o.dismiss(); err != nil {
			return fmt.Errorf("%v: %w", o, err)
		}
	}
	if d := t.ghosts[string(n.at.name)]; d != nil {
		delete(t.ghosts, string(n.at.name))
		if err := d.Close(); err != nil {
			return err
		}
	}
	own, err := t.env.File(n.id)
	if err != nil {
		return err
	}
	return n.at.bind(own.Int())
}

// leave takes a socket's peer away, and with it all that is in its queue.
func (t *turns) leave(n *node) error {
	if !n.leaves {
		return nil
	}
	p := n.partner
	if len(p.at.name) == 0 {
		// What n sent to p it sent before.
		for _, m := range t.sent[n] {
			if m.to == p {
				if err := t.fill(p, m.index+1); err != nil {
					return err
				}
			}
		}
	}
	if n.failsBy(p) {
		if err := t.do(p, leaving); err != nil {
			return err
		}
	}
	own, err := t.env.File(n.id)
	if err != nil {
		return err
	}
	if p.failsBy(n) {
		if err := t.sendAll(p); err != nil {
			return err
		}
		other, err := t.env.File(p.id)
		if err != nil {
			return err
		}
		return desert(own.Int(), other.Int(), &p.raised)
	}
	return disconnect(own.Int())
}

// failsBy tells whether a socket has an error since another one, which it was
// made with, left it.
func (n *node) failsBy(o *node) bool {
	return n.pending != 0 && n.partner == o && o.leaves && (!n.leaves || len(n.at.name) == 0)
}

// desert has a socket leave its peer while something is in its queue, of which
// the peer is told by an error.
func desert(own, peer int, raised *bool) error {
	s := sender{fd: peer, raised: raised}
	if err := s.send([]byte{0}, nil, false); err != nil {
		return err
	}
	return disconnect(own)
}

// sendAll fills queues with everything that a socket has sent: the next call
// would take its error away.
func (t *turns) sendAll(n *node) error {
	for _, m := range t.sent[n] {
		if err := t.fill(m.to, m.index+1); err != nil {
			return err
		}
	}
	return nil
}

// fail gives a socket its error.
func (t *turns) fail(n *node) error {
	switch {
	case n.pending == 0:
		return nil
	case n.partner != nil && n.failsBy(n.partner):
		return t.do(n.partner, leaving)
	}
	if n.mate == nil && n.role == orphan {
		return t.do(n, wiring)
	}
	if err := t.do(n, leaving); err != nil {
		return err
	}
	if err := t.sendAll(n); err != nil {
		return err
	}
	if n.wired { // by who was made with it, and is closed
		if err := t.do(n, filling); err != nil {
			return err
		}
	}
	own, err := t.env.File(n.id)
	if err != nil {
		return err
	}
	if n.mate == nil {
		return t.kind.failByName(n, own)
	}
	if err := desert(n.mate.Int(), own.Int(), &n.raised); err != nil || n.wired {
		return err
	}
	return disconnect(own.Int())
}

// failByName has a socket that stays for a moment only connect to one that has a
// name, and desert it.
func (k *Kind) failByName(n *node, own *fd.FD) error {
	s, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer sys.Close(s)
	if err := sys.Bind(s, &sys.SockaddrUnix{}); err != nil { // a name that is free
		return fmt.Errorf("bind: %w", err)
	}
	name, err := ownName(s)
	if err != nil {
		return err
	}
	if err := connectTo(own.Int(), s, name); err != nil {
		return err
	}
	return errors.Join(k.deserted(n, own, s), disconnect(own.Int()))
}

// deserted has a socket connect to one that is connected to it, and desert it.
func (k *Kind) deserted(n *node, own *fd.FD, from int) error {
	if err := connectTo(from, own.Int(), n.at.name); err != nil {
		return err
	}
	return desert(from, own.Int(), &n.raised)
}

// fill sends the first messages of a queue, each from the socket it came from.
func (t *turns) fill(n *node, count int) error {
	if t.filled[n] >= count {
		return nil
	}
	if err := t.ready(n); err != nil {
		return err
	}
	if t.state[turn{n, filling}] == begun {
		return errOrder
	}
	t.state[turn{n, filling}] = begun
	defer delete(t.state, turn{n, filling})
	own, err := t.env.File(n.id)
	if err != nil {
		return err
	}
	for i := t.filled[n]; i < count; i++ {
		err := t.send(n, own, n.queue.messages[i])
		if errors.Is(err, sys.EAGAIN) && t.joins(n, i) {
			if err = t.joinEarly(n); err == nil {
				err = t.send(n, own, n.queue.messages[i])
			}
		}
		if err != nil {
			return fmt.Errorf("%v: message %d in its queue: %w", n, i+1, err)
		}
		t.filled[n] = i + 1
	}
	return nil
}

// joins tells whether a socket can have been connected to its peer before a message came:
// that and all that came later is from there. Of that one there may be more in its queue than
// net.unix.max_dgram_qlen, which others are held to.
func (t *turns) joins(n *node, at int) bool {
	if n.peer == nil || n.wired {
		return false
	}
	for _, m := range n.queue.messages[at:] {
		if n.senderOf(m) != n.peer {
			return false
		}
	}
	return true
}

// joinEarly connects a socket to its peer before all is in its queue.
func (t *turns) joinEarly(n *node) error {
	t.state[turn{n, wiring}] = begun
	err := t.join(n)
	t.state[turn{n, wiring}] = over
	return err
}

// ready gives a socket its name, and does what takes its queue away.
func (t *turns) ready(n *node) error {
	if err := t.do(n, naming); err != nil {
		return err
	}
	if err := t.do(n, leaving); err != nil || n.pending == 0 || n.wired || n.role == orphan && n.mate == nil {
		return err
	}
	return t.do(n, failing)
}

// send sends one message.
func (t *turns) send(n *node, own *fd.FD, m *queuedMessage) error {
	s, err := t.sender(n, m)
	if err != nil {
		return err
	}
	return t.kind.deliver(t.env, n, own, m, s)
}

// sender returns the socket that sends a message: the peer, another one, or
// one in place of one that is closed.
func (t *turns) sender(n *node, m *queuedMessage) (*sender, error) {
	from := n.senderOf(m)
	switch {
	case from != nil:
		own, err := t.env.File(from.id)
		if err != nil {
			return nil, err
		}
		// Whom it is connected to it need not name.
		joined := from.born && from.partner == n && t.state[turn{from, leaving}] != over || from.wired && from.peer == n
		return &sender{fd: own.Int(), raised: &from.raised, joined: joined}, nil
	case n.mate != nil && (!m.gone || len(n.at.name) == 0):
		if len(m.name) > 0 {
			n.mateName = m.name
		}
		return &sender{fd: n.mate.Int(), raised: new(bool), joined: true}, nil
	}
	d, err := t.ghost(m.name)
	if err != nil {
		return nil, err
	}
	return &sender{fd: d.Int(), raised: new(bool)}, nil
}

// ghost returns a socket in place of a closed one that had a name.
func (t *turns) ghost(name []byte) (*fd.FD, error) {
	if d := t.ghosts[string(name)]; d != nil {
		return d, nil
	}
	s, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	d := fd.New(s)
	t.ghosts[string(name)] = d
	return d, t.kind.temporarily(s, name)
}

// close closes what stood in for others.
func (t *turns) close() error {
	var errs []error
	for _, d := range t.ghosts {
		errs = append(errs, d.Close())
	}
	clear(t.ghosts)
	return errors.Join(errs...)
}

// wire connects a datagram socket to its peer when all is in its queue. Nobody may connect to one that
// is connected to somebody else: those that are connected to it come first.
func (t *turns) wire(n *node) error {
	if n.wired {
		return nil
	}
	if err := t.ready(n); err != nil {
		return err
	}
	if err := t.do(n, filling); err != nil || n.wired {
		return err
	}
	return t.join(n)
}

// join connects a datagram socket to its peer, or to nobody, once others are connected to it.
func (t *turns) join(n *node) error {
	for _, o := range n.from {
		if err := t.do(o, wiring); err != nil {
			return fmt.Errorf("%v: %w", o, err)
		}
	}
	if n.pending != 0 && n.role == orphan {
		if err := t.sendAll(n); err != nil {
			return err
		}
	}
	own, err := t.env.File(n.id)
	if err != nil {
		return err
	}
	n.wired = true
	switch {
	case n.peer != nil:
		if err := t.ready(n.peer); err != nil {
			return err
		}
		other, err := t.env.File(n.peer.id)
		if err != nil {
			return err
		}
		return connectTo(own.Int(), other.Int(), n.peer.at.name)
	case n.role == orphan:
		return t.wireToNobody(n, own)
	}
	return nil
}

// wireToNobody connects a datagram socket to one that is closed then.
func (t *turns) wireToNobody(n *node, own *fd.FD) error {
	s, err := t.ghost(n.peerName)
	if err != nil {
		return err
	}
	if err := connectTo(own.Int(), s.Int(), n.peerName); err != nil || n.pending == 0 {
		return err
	}
	return t.kind.deserted(n, own, s.Int())
}

// datagrams fills the queues of all datagram sockets that have to wait for
// others, and connects them.
func (k *Kind) datagrams(env *plan.Env) (err error) {
	t := newTurns(k, env)
	defer func() { err = errors.Join(err, t.close()) }()
	all := slices.DeleteFunc(slices.Clone(k.order), func(n *node) bool { return n.typ != sys.SOCK_DGRAM || !n.late })
	for _, n := range all {
		if err := t.all(n); err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
	}
	if err := t.close(); err != nil { // they may have the names of those that are dismissed
		return err
	}
	for _, n := range all {
		if err := n.dismiss(); err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
	}
	return nil
}
