package inet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	sk_inet "glis.dev/glis/image/criu/sk-inet"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// node is a socket to be made again.
type node struct {
	sort
	kind     *Kind
	id       plan.ID
	entry    facts
	at, peer address
	owner    file.Owner
	inode    *extra.SocketInode
	load     *socket.Loader // of opts
	opts     *socket.Saved  // shared by those that have the same
	needs    []plan.ID
	stream   *tcp.Stream // of a connection
	besides  *besides    // of a connection, until its stream is read
	ended    *ended      // its connection has
	more     *more       // nil: it has nothing of that
	unseen   *unseen
	sharing  *extra.ReusePort // nil: it is alone at its port
	inbox    *inbox           // nil: nothing is in a UDP socket's queues
	begun    *fd.FD           // it, without an address; nil: see begin
	joined   bool             // its peer is in the images, too
	beside   bool             // it has SO_REUSEPORT until the tree is there, see share
	lenient  bool             // and SO_REUSEADDR
	atOnce   bool             // it is connected without TCP_FASTOPEN_CONNECT
	over     bool             // it was bound by bindOver
	freely   bool             // it is made by createReleased now
	cut      bool             // it was connected, and comes back as a closed socket (--tcp-close)
}

// more is what few sockets have.
type more struct {
	heard   address // see portless.go
	waiting []*tcp.Waiting
	groups  []*membership
	keys    []*secret
	cookies []byte
	fault   unix.Errno // what waits to be reported
}

// few is what it has of that, to be looked at.
func (n *node) few() more {
	if n.more == nil {
		return more{}
	}
	return *n.more
}

// give has some of it be changed.
func (n *node) give(f func(m *more)) {
	if n.more == nil {
		n.more = &more{}
	}
	f(n.more)
}

// facts are what is kept of a socket's entry: there may be very many.
type facts struct {
	ino, flags, backlog uint32
	state, shutdown     uint8 // 255 if it is more, which can't be
	ifname              string
}

func factsOf(e *sk_inet.InetSkEntry) facts {
	small := func(v uint32) uint8 { return uint8(min(v, math.MaxUint8)) }
	return facts{e.GetIno(), e.GetFlags(), e.GetBacklog(), small(e.GetState()), small(uint32(e.GetShutdown())), e.GetIfname()}
}

// live tells whether it is an end of a connection when it is back.
func (n *node) live() bool { return n.connected && !n.cut && n.ended == nil }

// ID implements plan.Node.
func (n *node) ID() plan.ID { return n.id }

// Needs implements plan.Node. A listener comes after the sockets that are only
// bound to its port: the other way round the kernel would refuse them.
func (n *node) Needs() []plan.ID { return n.needs }

// Independent implements plan.Independent: most connections have nothing to do
// with each other when what they need is there, and most UDP sockets. Of those
// that share a port the last one may be who gets what comes.
func (n *node) Independent() bool {
	if n.datagrams() {
		return n.inbox == nil && !n.beside && !n.lenient && n.sharing == nil && !n.option("SO_REUSEADDR") && !n.option("SO_REUSEPORT")
	}
	return n.live() && n.stream.State == tcp.Established && n.stream.Mark == nil
}

// Streamed implements plan.Streamed: nothing is put into it by Fill.
func (n *node) Streamed() bool { return true }

// String implements plan.Node.
func (n *node) String() string {
	s := "UDP"
	if n.tcpLike() {
		s = "TCP"
	}
	if n.lite() {
		s = "UDP-Lite"
	}
	if n.protocol == unix.IPPROTO_MPTCP {
		s = "Multipath TCP"
	}
	if n.at.set() {
		s += " at " + n.at.String()
	}
	if n.peer.set() {
		s += " connected to " + n.peer.String()
	}
	if n.few().heard.set() {
		s += " hearing only " + n.few().heard.ip.String()
	}
	if n.cut || n.ended != nil {
		s += ", closed"
	}
	if n.live() {
		s += n.stream.String()
	}
	if n.listens() {
		s += fmt.Sprintf(", listening, backlog %d", n.entry.backlog)
	}
	return s
}

func (n *node) listens() bool { return int(n.entry.state) == listening }

// Create implements plan.Node.
func (n *node) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	own, err := n.createNear(env)
	if errors.Is(err, errDeferred) {
		n.atOnce = true
		own, err = n.createNear(env)
	}
	if err != nil {
		return nil, err
	}
	n.kind.sayUnheard(env.Log)
	if err := n.setPace(env, own); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// createNear makes it, bound as its address was chosen.
func (n *node) createNear(env *plan.Env) (*fd.FD, error) {
	if n.ended != nil && n.ended.released {
		own, err := n.createReleased()
		if err == nil {
			return own, nil
		}
		env.Log.Debug("A socket whose connection has ended keeps its port until it is closed", "socket", n, "why", err)
	}
	own, err := n.createAnywhere(env)
	if errors.Is(err, unix.EADDRNOTAVAIL) && n.live() && env.Locked && n.destroyLeft(env) {
		return n.createAnywhere(env)
	}
	return own, err
}

func (n *node) createAnywhere(env *plan.Env) (*fd.FD, error) {
	if n.leavesWide() {
		own, err := n.create(env, n.wide())
		if !errors.Is(err, errSource) && !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EAGAIN) {
			return own, err
		}
	}
	return n.create(env, n.at)
}

// create makes it, bound to an address. What fails when many calls are made
// together is tried again one by one, which tells why.
func (n *node) create(env *plan.Env, at address) (*fd.FD, error) {
	if !n.live() || len(n.kind.nodes) < fewTogether {
		return n.createBy(linux.Hand{}, at)
	}
	h := env.Rings.Take()
	defer env.Rings.Give(h)
	own, err := n.createBy(h, at)
	if err != nil && h.Many() {
		h.Forget()
		return n.createBy(linux.Hand{}, at)
	}
	return own, err
}

// fewTogether is how many sockets are made one call after the other, since a ring
// costs as much as some of them.
var fewTogether = 32

// Begin implements plan.Begun: of connections, of which there may be thousands.
func (n *node) Begin() {
	if n.live() && n.Independent() && n.unseen.entry == nil {
		n.begun, _ = n.unseen.socket() // createBy tries again, and tells why not
	}
}

func (n *node) createBy(h linux.Hand, at address) (*fd.FD, error) {
	own, err := n.begun, error(nil)
	if n.begun = nil; own == nil {
		own, err = n.unseen.socket()
	}
	if err != nil {
		return nil, err
	}
	if err := n.finish(h, own, at); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// finish gives a new socket all it had. Whoever connects to a listener gets a
// socket like it, so that listening comes last.
func (n *node) finish(h linux.Hand, own *fd.FD, at address) error {
	k, err := n.kind.kernel(n.sort)
	if err != nil {
		return err
	}
	if err := errors.Join(socket.SetInode(own.Int(), n.inode), n.setFault(own.Int())); err != nil {
		return err
	}
	var touched []string
	if n.number("IP_TOS") != 0 {
		touched = append(touched, "SO_PRIORITY")
	}
	if err := k.Set(own.Int(), n.values(), socket.Early, socket.Early, touched...); err != nil {
		return err
	}
	if err := n.attach(own.Int()); err != nil {
		return err
	}
	if n.live() {
		if err := n.finishConnection(h, own, k, at); err != nil {
			return err
		}
		return n.setKeys(own.Int())
	}
	if err := n.setKeys(own.Int()); err != nil {
		return err
	}
	if n.ended != nil {
		return n.finishEnded(own, k, at)
	}
	if !n.tcpLike() {
		if err := n.choose(own.Int()); err != nil {
			return err
		}
	}
	if err := errors.Join(n.deafen(own.Int()), n.place(own.Int(), at)); err != nil {
		return err
	}
	if n.inbox != nil {
		return n.finishInbox(own, k)
	}
	if err := n.setLate(own.Int(), k); err != nil {
		return err
	}
	if err := n.open(own.Int()); err != nil {
		return err
	}
	if n.tcpLike() {
		if err := errors.Join(k.Set(own.Int(), n.values(), socket.Opened, socket.Opened), n.choose(own.Int())); err != nil {
			return err
		}
	}
	if err := n.asSettled(own.Int(), n.admit); err != nil {
		return err
	}
	return n.flags(own)
}

// values are those of its options.
func (n *node) values() []socket.Value { return n.opts.All() }

// setLate sets what a socket gets when it is bound: of one that shares its port but that
// nothing more can be attached to it, see lock.
func (n *node) setLate(own int, k *socket.Kernel) error {
	want := n.values()
	if n.locksLast() {
		want = slices.Clone(want)
		k.Know(want, "SO_LOCK_FILTER", socket.Value{})
	}
	return k.Set(own, want, socket.Late, socket.Last)
}

// attach gives a new socket what is attached to one, and its groups.
func (n *node) attach(own int) error {
	if err := socket.AttachDevice(own, n.opts.Entry); err != nil {
		return err
	}
	if !n.filtersLast() {
		if err := n.attachFilters(own); err != nil {
			return err
		}
	}
	if err := n.unseen.set(own); err != nil {
		return err
	}
	for _, g := range n.few().groups {
		if err := g.join(own); err != nil {
			return err
		}
	}
	return nil
}

// filtersLast tells whether something is to come to the socket before it has its filters,
// which might not let it in: what is in its queue, or segments as if from its peer.
func (n *node) filtersLast() bool {
	return n.inbox != nil || n.ended != nil || n.live() && n.stream.State != tcp.SynSent
}

func (n *node) attachFilters(own int) error {
	if err := socket.AttachFilter(own, n.opts.Entry); err != nil {
		return err
	}
	return socket.AttachEBPF(own, n.unseen.entry.GetFilter())
}

// filtered tells whether it has a filter.
func (n *node) filtered() bool {
	return len(n.opts.Entry.GetSoFilter()) > 0 || n.unseen.entry.GetFilter() != nil
}

// place gives the socket what it hears, and its address.
func (n *node) place(own int, at address) error {
	if !n.hearsLate() {
		if err := n.hearOnly(own); err != nil {
			return err
		}
	}
	return n.bind(own, at)
}

// bind gives the socket its address. Connections of the listener before it may
// still be about to end: that is what SO_REUSEADDR is for.
func (n *node) bind(own int, at address) error {
	if !n.at.set() || n.cut {
		return nil
	}
	if n.beside {
		if err := n.sharePort(own, 1); err != nil {
			return err
		}
	}
	forTime := n.tcpLike() && n.number("SO_REUSEADDR") == 0
	if forTime || n.lenient {
		if err := setReuse(own, 1); err != nil {
			return err
		}
	}
	zone, err := n.zone()
	if err != nil {
		return err
	}
	if at.port == 0 && n.at.port != 0 && !n.autobound() {
		return n.lendPort(own, at, zone)
	}
	if err := n.bindAs(own, at, zone); err != nil {
		return err
	}
	if forTime && !n.lenient {
		return setReuse(own, 0)
	}
	return nil
}

// bindAs binds it to a port of its own, or as the kernel gave it one.
func (n *node) bindAs(own int, at address, zone int) error {
	switch {
	case at.port == 0 && n.at.port != 0:
		return n.bindAuto(own, at, zone)
	case n.vacant():
		return n.bindElse(own, zone)
	}
	err := n.bindTo(own, at, zone)
	if errors.Is(err, unix.EADDRINUSE) {
		return n.bindOver(own, at, zone, err)
	}
	return err
}

func (n *node) bindTo(own int, at address, zone int) error {
	// Without a port it got none because of this option, which may have been
	// reset since.
	value := [4]byte{1}
	if at.port == 0 {
		old, err := unix.GetsockoptInt(own, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT)
		if err == nil {
			err = linux.Setsockopt(own, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, value[:])
		}
		if err != nil {
			return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
		value[0] = byte(old)
	}
	err := n.bindAside(own, at, zone)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("bind to %v: another socket has this port, or connections that ended a moment ago still do (TIME_WAIT); end the program it belongs to, or try again in a minute: %w", at, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("bind to %v: this machine doesn't have that address; add it: %w", at, err)
	case err != nil:
		return fmt.Errorf("bind to %v: %w", at, err)
	}
	if at.port == 0 {
		return linux.Setsockopt(own, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, value[:])
	}
	return nil
}

// bindAside binds a socket of IPv6 that belongs to an interface which has not its
// address, or is gone: it was bound before it came to belong there, which the kernel lets be.
func (n *node) bindAside(own int, at address, zone int) error {
	err := n.unseen.bindAt(own, at, zone)
	if !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) || n.family != unix.AF_INET6 || n.opts.Entry.GetSoBoundDev() == "" {
		return err
	}
	if err := socket.BindToDevice(own, ""); err != nil {
		return err
	}
	return errors.Join(n.unseen.bindAt(own, at, zone), socket.AttachDevice(own, n.opts.Entry))
}

func setReuse(fd, on int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on); err != nil {
		return fmt.Errorf("set SO_REUSEADDR to %d: %w", on, err)
	}
	return nil
}

// zone returns the index of the interface that a link-local address needs.
func (n *node) zone() (int, error) { return zoneOf(n.family, n.entry.ifname) }

// zoneOf is zone for any inet socket's entry.
func zoneOf(family int, name string) (int, error) {
	if name == "" || family != unix.AF_INET6 {
		return 0, nil
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("interface %q of its link-local address: %w", name, err)
	}
	return i.Index, nil
}

// open connects the socket or makes it listen, and shuts it down.
func (n *node) open(own int) error {
	if err := n.shutBefore(linux.Hand{}, own); err != nil {
		return err
	}
	switch {
	case n.listens() && n.over:
		return n.listenOver(own)
	case n.listens():
		return tcp.Listen(own, int(n.entry.backlog))
	}
	if err := n.connect(own); err != nil {
		return err
	}
	return n.shut(own)
}

// connect connects a socket that has a peer without a connection.
func (n *node) connect(own int) error {
	if !n.peer.set() || n.cut {
		return nil
	}
	zone, err := n.zone()
	if err != nil {
		return err
	}
	if n.strayed() {
		if err := n.unseen.connectTo(own, address{n.at.ip, discard}, zone); err != nil {
			return fmt.Errorf("connect to %v, which gave it its address: %w", n.at.ip, err)
		}
	}
	err = n.unseen.connectTo(own, n.peer, zone)
	if via := n.number("IP_UNICAST_IF"); err != nil && via != 0 {
		// It leads elsewhere: it was set afterwards.
		err = errors.Join(setVia(own, 0), n.unseen.connectTo(own, n.peer, zone), setVia(own, via))
	}
	if err != nil {
		return fmt.Errorf("connect to %v: %w", n.peer, err)
	}
	if !n.leavesWide() || n.autobound() {
		return nil
	}
	return errors.Join(n.freePort(own), n.checkSource(own))
}

func setVia(own, via int) error {
	if err := unix.SetsockoptInt(own, unix.IPPROTO_IP, unix.IP_UNICAST_IF, via); err != nil {
		return fmt.Errorf("set IP_UNICAST_IF: %w", err)
	}
	return nil
}

// shut shuts the socket down as it was.
func (n *node) shut(own int) error {
	how := int(n.entry.shutdown) - 1 // SHUT_RD, SHUT_WR, SHUT_RDWR
	if n.cut {
		how = unix.SHUT_RDWR
	}
	if how < 0 {
		return nil
	}
	// It works on a socket that isn't connected, although it says otherwise.
	if err := unix.Shutdown(own, how); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("shutdown %d: %w", how, err)
	}
	return nil
}

// FileFlags implements plan.Async.
func (n *node) FileFlags() uint32 { return n.entry.flags }

// flags brings file flags and owner back.
func (n *node) flags(own *fd.FD) error {
	if err := errors.Join(n.unseen.finish(own.Int()), n.owner.Set(own)); err != nil {
		return err
	}
	return socket.SetFlags(own, n.entry.flags)
}
