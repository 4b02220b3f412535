package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
)

// Sockets that share a port (SO_REUSEPORT) are in a list, in the order in which
// they were bound, or have listened. Who gets a packet is a number in that list,
// chosen by its addresses or by a program.

// reuseNames are the members of structures that tell of sharing.
func reuseNames() []string {
	return []string{"sock.sk_reuseport_cb", "sock_reuseport", "sock_reuseport.num_socks", "sock_reuseport.prog"}
}

// mostSharing is how many sockets of a port are kept in their order.
const mostSharing = 512

// checkSharing finds the place of a socket among those that share its port.
func (l *look) checkSharing() error {
	if !l.at.set() || l.live() || l.protocol == unix.IPPROTO_MPTCP || l.inside == nil && l.value("SO_REUSEPORT") == 0 {
		return nil
	}
	m, err := l.kind.memory()
	if err != nil {
		return l.refuse("it shares its port (SO_REUSEPORT), and whether a program spreads the load (SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF) isn't known (%v)", err)
	}
	if l.inside == nil { // its options are another's
		if l.inside, err = l.lookInside(m, l.fd.Int(), &extra.SocketEntry{}); err != nil {
			return l.fail(err)
		}
	}
	own := l.inside.At
	if o := l.loneOf(); o != nil {
		own = o.sk
	}
	at, err := m.Pointer(own + m.Off("sock.sk_reuseport_cb"))
	if err != nil || at == 0 {
		return l.fail(err)
	}
	g, err := m.Struct("sock_reuseport", at)
	if err != nil {
		return l.fail(err)
	}
	list := make([]byte, 8*int(g.U16("sock_reuseport.num_socks")))
	if err := m.ReadAt(list, at+m.Off("sock_reuseport")); err != nil {
		return l.fail(err)
	}
	var members []kmem.Addr
	for ; len(list) > 0; list = list[8:] {
		members = append(members, kmem.Addr(binary.LittleEndian.Uint64(list)))
	}
	return l.share(m, at, members, slices.Index(members, own), g.Pointer("sock_reuseport.prog"))
}

// share notes the place of a socket among the members of a group.
func (l *look) share(m *kmem.Reader, group kmem.Addr, members []kmem.Addr, index int, program kmem.Addr) error {
	if index < 0 || len(members) == 1 && program == 0 {
		return nil
	}
	whole := len(members) <= mostSharing
	if program != 0 && whole {
		var err error
		if whole, err = l.allInTree(m, members); err != nil {
			return l.fail(err)
		}
	}
	if program != 0 && !whole {
		return l.refuse("a program spreads the load among those that share its port (SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF), and of these %d sockets some are outside of the tree, or they are more than %d: dump them together", len(members), mostSharing)
	}
	l.decided = program != 0 && l.value("SO_LOCK_FILTER") != 0
	if err := l.checkDecided(); err != nil {
		return err
	}
	if l.kind.ports == nil {
		l.kind.ports = map[kmem.Addr]uint32{}
	}
	if l.kind.ports[group] == 0 {
		l.kind.ports[group] = uint32(len(l.kind.ports) + 1)
	}
	r := &extra.ReusePort{Group: proto.Uint32(l.kind.ports[group]), Index: proto.Uint32(uint32(index))}
	if program != 0 && index == 0 {
		var err error
		if r.Program, err = socket.ReadProgram(m, program); err != nil {
			return l.fail(err)
		}
		if err := socket.Keep(l.env, l.file, r.Program); err != nil {
			return err
		}
	}
	l.more.ReusePort = r
	return nil
}

// checkDecided refuses clients that wait where they couldn't be put back.
func (l *look) checkDecided() error {
	if !l.decided || l.tcp.Waiting == 0 || l.leavesOut() {
		return nil
	}
	return l.refuse("%s, but a program spreads the load among those that share its port, and another one, which would have them wait where they do, can't be attached (SO_LOCK_FILTER); let the server accept them, or give --skip-in-flight", socket.Unaccepted(l.tcp.Waiting))
}

// allInTree tells whether the tree has all of these sockets, as descriptors or in messages.
func (l *look) allInTree(m *kmem.Reader, members []kmem.Addr) (bool, error) {
	all, err := l.inTree(m, members)
	if all || err != nil || l.env.Discover == nil {
		return all, err
	}
	if err := l.env.Discover(); err != nil {
		return false, err
	}
	return l.inTree(m, members)
}

func (l *look) inTree(m *kmem.Reader, members []kmem.Addr) (bool, error) {
	missing := map[kmem.Addr]bool{}
	for _, a := range members {
		missing[a] = true
	}
	for _, f := range l.env.Tree.Files {
		if f.FD < 0 || !l.kind.Match(f) {
			continue
		}
		if o := l.kind.loneIn(f); o != nil {
			delete(missing, o.sk)
			continue
		}
		d, err := f.Borrow()
		if err != nil {
			return false, err
		}
		at, err := m.Sock(d.Int())
		if err = errors.Join(err, d.Close()); err != nil {
			return false, err
		}
		delete(missing, at)
	}
	return len(missing) == 0, nil
}

// planSharing checks the place of a socket among those of its port.
func (n *node) planSharing(x *extra.SocketEntry) error {
	n.sharing = x.GetReusePort()
	if n.sharing == nil {
		return nil
	}
	if !n.at.set() || n.live() || n.sharing.Program != nil && n.sharing.GetIndex() != 0 {
		return fmt.Errorf("place %d among those that share its port can't be", n.sharing.GetIndex())
	}
	return socket.CheckProgram(n.sharing.GetProgram())
}

// order has sockets of a port follow each other. Those that listen come after
// those that don't anyway.
func (k *Kind) order() error {
	type group struct {
		number  uint32
		listens bool
	}
	all := map[group][]*node{}
	for _, n := range k.nodes {
		if n.sharing != nil {
			g := group{n.sharing.GetGroup(), n.listens()}
			all[g] = append(all[g], n)
		}
	}
	for g, members := range all {
		if len(members) > mostSharing {
			continue
		}
		slices.SortFunc(members, func(a, b *node) int { return int(a.sharing.GetIndex()) - int(b.sharing.GetIndex()) })
		for i, n := range members[1:] {
			if n.sharing.GetIndex() == members[i].sharing.GetIndex() {
				return fmt.Errorf("files.img: two sockets have place %d of port group %d", n.sharing.GetIndex(), g.number)
			}
			n.needs = append(slices.Clip(n.needs), members[i].id)
		}
	}
	return nil
}

// choose has a program choose who gets a packet: of UDP before there can be any.
// A listener must have its port before, since ends of connections that are over
// would be in its way then; as long as it is the first, it gets all requests.
func (n *node) choose(own int) error {
	p := n.sharing.GetProgram()
	if p == nil {
		return nil
	}
	n.kind.choosers[n.shares()] = p
	on := n.option("SO_REUSEPORT")
	if !on {
		if err := n.sharePort(own, 1); err != nil {
			return err
		}
	}
	if err := socket.AttachChooser(own, p); err != nil || on {
		return err
	}
	return n.sharePort(own, 0)
}

// locksLast tells whether programs have to be attached to a listener that lets nothing
// more be attached to it (SO_LOCK_FILTER).
func (n *node) locksLast() bool { return n.listens() && n.option("SO_LOCK_FILTER") }

// lock has nothing more be attached to such a listener, nor to who is accepted by it.
func (n *node) lock(own int) error {
	if !n.locksLast() {
		return nil
	}
	if err := unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1); err != nil {
		return fmt.Errorf("set SO_LOCK_FILTER: %w", err)
	}
	return nil
}

// Follow implements plan.Follower.
func (n *node) Follow() error {
	return errors.Join(socket.LetGo(n.unseen.entry.GetFilter()), socket.LetGo(n.sharing.GetProgram()), n.rouse(), n.greet())
}

// checkPrograms makes sure that programs can be attached again.
func (n *node) checkPrograms() error {
	return errors.Join(socket.FindProgram(n.unseen.entry.GetFilter()), socket.FindProgram(n.sharing.GetProgram()))
}

var _ plan.Follower = (*node)(nil)
