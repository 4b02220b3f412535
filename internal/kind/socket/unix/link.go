package unix

import (
	"context"
	"errors"
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// link is a connection to be made. An end that no node has is closed later, but
// its name stays.
type link struct {
	a, b *node // b may be nil
}

// link returns the connection that a socket is one end of; nil if it is made
// alone.
func (n *node) link() *link {
	switch {
	case n.typ == sys.SOCK_DGRAM && n.partner != nil:
		return &link{n, n.partner}
	case n.typ == sys.SOCK_DGRAM && n.bornOf() == nil:
		return nil
	case n.typ == sys.SOCK_DGRAM || n.role == orphan:
		return &link{n, nil}
	case n.role == paired:
		return &link{n, n.peer}
	}
	return nil
}

// byName tells whether it has to be made by connect(2) and accept(2): its ends
// tell of two processes, or one has an abstract name that is its listener's.
func (l *link) byName() bool {
	borrowed := func(n *node) bool { return n != nil && n.at.accepted && !isPath(n.at.name) }
	if l.a.typ == sys.SOCK_DGRAM {
		return false
	}
	if l.b != nil && (l.a.early|l.b.early) != 0 && len(l.a.at.name)+len(l.b.at.name) > 0 {
		return true
	}
	return borrowed(l.a) || borrowed(l.b) || l.b != nil && !l.a.alike(l.b)
}

// atOnce is how many connections are made in one go.
const atOnce = 256

// byIdentity groups links of which key is the same, in order.
func grouped[K comparable](links []*link, key func(*link) K) [][]*link {
	at := map[K]int{}
	var out [][]*link
	for _, l := range links {
		k := key(l)
		i, ok := at[k]
		if !ok || len(out[i]) == atOnce {
			i = len(out)
			out = append(out, nil)
			at[k] = i
		}
		out[i] = append(out[i], l)
	}
	return out
}

type pairKey struct {
	typ int
	who string
}

// makePairs makes connections by socketpair(2).
func (k *Kind) makePairs(ctx context.Context, env *plan.Env, links []*link) error {
	for _, some := range grouped(links, func(l *link) pairKey { return pairKey{l.a.typ, fmt.Sprint(l.a.identity())} }) {
		ends, err := k.socketpairs(ctx, env, some[0].a.identity(), some[0].a.typ, len(some))
		if err != nil {
			return fmt.Errorf("%v: socketpair: %w", some[0].a, err)
		}
		for i, l := range some {
			err = errors.Join(err, l.take(ends[2*i], ends[2*i+1]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// socketpairs makes n pairs.
func (k *Kind) socketpairs(ctx context.Context, env *plan.Env, who plan.Identity, typ, n int) ([]*fd.FD, error) {
	if env.As != nil {
		return env.As(ctx, who, nil, func(m plan.Making) {
			for range n {
				m.Add("socketpair", sys.SYS_SOCKETPAIR, sys.AF_UNIX, uint64(typ|sys.SOCK_CLOEXEC), 0, m.Room(8))
				m.New()
				m.New()
			}
		})
	}
	var out []*fd.FD
	for range n {
		p, err := sys.Socketpair(sys.AF_UNIX, typ|sys.SOCK_CLOEXEC, 0)
		if err != nil {
			return out, err
		}
		out = append(out, fd.New(p[0]), fd.New(p[1]))
	}
	return out, nil
}

// take gives the ends of a pair to who has them.
func (l *link) take(a, b *fd.FD) error {
	if err := l.a.dress(a); err != nil {
		return errors.Join(err, b.Close())
	}
	if l.b != nil {
		if err := l.b.dress(b); err != nil {
			return err
		}
	} else {
		l.a.mate = b
	}
	if l.a.typ == sys.SOCK_DGRAM {
		return l.settle()
	}
	return nil
}

// settle says which sockets of a pair stay connected to each other. One that
// was disconnected later may have sent something before: Stuff sees to it.
func (l *link) settle() error {
	if l.b != nil {
		for _, n := range []*node{l.a, l.b} {
			// Who left a socket that has an error since does so again.
			n.born, n.wired = true, n.peer != nil && n.peer == n.partner && n.partner.pending == 0
			n.leaves = !n.wired
		}
		return nil
	}
	if l.a.wired = l.a.role == orphan && !l.a.moved(); l.a.wired || l.a.pending != 0 {
		return nil // an error comes of who is connected, see turns
	}
	if err := disconnect(l.a.made.Int()); err != nil {
		return fmt.Errorf("%v: %w", l.a, err)
	}
	return nil // the other end goes when it has sent what it had
}

// ends are the two sides of a connection that is made by name.
type ends struct {
	client, server         *node // nil: it is closed later
	clientName, serverName []byte
	listen, connect        plan.Identity
}

// ends tells which end of a connection was accepted.
func (l *link) ends() ends {
	if l.b == nil {
		who := l.a.identity()
		return ends{server: l.a, serverName: l.a.at.name, clientName: l.a.peerName, listen: who, connect: who}
	}
	server, client := l.b, l.a
	if !l.b.at.accepted && l.a.at.accepted || len(l.b.at.name) == 0 {
		server, client = l.a, l.b
	}
	return ends{
		client: client, server: server, clientName: client.at.name, serverName: server.at.name,
		listen: client.identity(), connect: server.identity(),
	}
}

type connectKey struct {
	typ             int
	name            string
	listen, connect string
}

// makeConnections makes connections through listeners that are closed again.
func (k *Kind) makeConnections(ctx context.Context, env *plan.Env, links []*link) error {
	key := func(l *link) connectKey {
		e := l.ends()
		return connectKey{l.a.typ, string(e.serverName), fmt.Sprint(e.listen), fmt.Sprint(e.connect)}
	}
	for _, some := range grouped(links, key) {
		for part := range slices.Chunk(some, k.waiting()) {
			if err := k.connectAll(ctx, env, part); err != nil {
				return fmt.Errorf("%v: %w", part[0].a, err)
			}
		}
	}
	return nil
}
