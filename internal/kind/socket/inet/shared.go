package inet

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// Sockets may have an address in common that the kernel would not give them
// now: they had SO_REUSEADDR or SO_REUSEPORT on when they were bound, and have it
// off since. They have it on again until the whole tree is there: the next to be
// bound needs it of those before.

// The kernel lets who has SO_REUSEPORT be beside TCP sockets that had it on, too, when they were
// bound, and have it off since: what counts is what it has noted at the port.

// readOpen finds out whether it has.
func (l *look) readOpen(m *kmem.Reader) error {
	if l.protocol != unix.IPPROTO_TCP || l.connected || l.at.port == 0 || l.value("SO_REUSEPORT") != 0 || !m.Has("inet_bind_bucket.fastreuseport") || !m.Has("inet_connection_sock.icsk_bind_hash") {
		return nil
	}
	own := l.inside.At
	if o := l.loneOf(); o != nil {
		own = o.sk
	}
	at, err := m.Pointer(own + m.Off("inet_connection_sock.icsk_bind_hash"))
	if err != nil || at == 0 {
		return err
	}
	port, err := m.Struct("inet_bind_bucket", at)
	if err == nil && port.U8("inet_bind_bucket.fastreuseport") != 0 {
		l.more.PortOpen = proto.Bool(true)
	}
	return err
}

// seat is an address of a socket, as far as others can be in its way.
type seat struct {
	v6    bool
	ports int // IPPROTO_*
	port  uint16
	at    address // port only: those of all addresses
}

// share notes which sockets could not be bound beside others as they are. With
// SO_REUSEPORT listeners are not in each other's way, and what is of UDP.
func (k *Kind) share() {
	for _, n := range k.nodes {
		n.beside = n.unseen.entry.GetPortOpen() && n.tcpLike() && n.takesSeat() && !n.option("SO_REUSEPORT")
	}
	crowded := k.crowded()
	if len(crowded) == 0 {
		return
	}
	var all []*node
	count, open := map[seat]int{}, map[seat]int{}
	for _, n := range k.nodes {
		if !n.takesSeat() || !crowded[n.port()] {
			continue
		}
		all = append(all, n)
		for _, s := range n.seats() {
			count[s]++
			if n.at.ip.IsUnspecified() {
				open[s]++
			}
		}
		count[n.seat()]++
	}
	for _, n := range all {
		taken := count[n.seat()] > 1
		for _, s := range n.seats() {
			taken = taken || count[s] > 1 && open[s] > 0
		}
		n.lenient = taken && !n.option("SO_REUSEADDR")
		n.beside = n.beside || taken && !n.option("SO_REUSEPORT") && (n.listens() || n.datagrams() && n.lenient)
	}
}

// crowded returns the ports that several sockets have. Most have one, and to count
// those by their addresses would take more memory than all else that is planned.
func (k *Kind) crowded() map[uint32]bool {
	ports := make([]uint32, 0, len(k.nodes))
	for _, n := range k.nodes {
		if n.takesSeat() {
			ports = append(ports, n.port())
		}
	}
	slices.Sort(ports)
	crowded := map[uint32]bool{}
	for i := 1; i < len(ports); i++ {
		if ports[i] == ports[i-1] {
			crowded[ports[i]] = true
		}
	}
	return crowded
}

// port is the port, of its protocol.
func (n *node) port() uint32 { return uint32(n.ports())<<16 | uint32(n.at.port) }

// takesSeat tells whether others can be in the way of its address.
func (n *node) takesSeat() bool { return n.at.port != 0 && !n.connected && !n.cut && !n.vacant() }

// seat returns the address of a socket, seats the ports that others can have it of:
// all addresses of IPv6 are those of IPv4, too, unless it has IPV6_V6ONLY.
func (n *node) seat() seat {
	return seat{n.family == unix.AF_INET6 && !n.at.ip.Is4In6(), n.ports(), n.at.port, address{n.at.ip.Unmap(), n.at.port}}
}

func (n *node) seats() []seat {
	one := n.seat()
	one.at = address{}
	if !one.v6 || !n.at.ip.IsUnspecified() || n.option("IPV6_V6ONLY") {
		return []seat{one}
	}
	other := one
	other.v6 = false
	return []seat{one, other}
}

// option tells whether an option was on.
func (n *node) option(name string) bool {
	v, ok := n.load.Of(n.opts, name)
	return ok && v.Lo != 0
}

// settled are the options of a socket which has others until the tree is there.
func (n *node) settled() (opts []linux.SockOpt) {
	if n.lenient {
		opts = append(opts, linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_REUSEADDR, Value: 0})
	}
	if n.beside {
		opts = append(opts, linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_REUSEPORT, Value: 0})
	}
	return opts
}

// asSettled runs f while the socket has its own options: what comes to it is not given to
// those that share its port, and who is accepted has the same ones.
func (n *node) asSettled(own int, f func(int) error) error {
	opts := n.settled()
	for _, o := range opts {
		if err := o.Set(own); err != nil {
			return err
		}
	}
	if err := f(own); err != nil {
		return err
	}
	for _, o := range opts {
		o.Value = 1
		if err := o.Set(own); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) sharePort(own, on int) error {
	if err := unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_REUSEPORT, on); err != nil {
		return fmt.Errorf("set SO_REUSEPORT to %d: %w", on, err)
	}
	return nil
}
