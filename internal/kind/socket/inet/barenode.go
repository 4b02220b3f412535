package inet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// bareNode is a bare socket in a restore.
type bareNode struct {
	socket.PlainNode
	sort
	kind     *Kind
	entry    *sk_inet.InetSkEntry
	at, peer address
	to       bool // it is connected
	unseen   *unseen
	groups   []*membership
	queue    []*received
	failed   *failed // nil: no errors wait
	placed   bool    // it has its address already
}

// planBare is Plan for bare sockets.
func (k *Kind) planBare(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetIsk()
	n := &bareNode{
		sort: sort{family: int(in.GetFamily()), protocol: int(in.GetProto()), bare: int(in.GetType())},
		kind: k, entry: in, to: in.GetState() == established,
	}
	if err := n.check(); err != nil {
		return err
	}
	var err error
	if n.at, err = fromWords(n.family, in.GetSrcAddr(), in.GetSrcPort()); err != nil {
		return err
	}
	n.at = k.move(n.at)
	if n.peer, err = fromWords(n.family, in.GetDstAddr(), in.GetDstPort()); err != nil {
		return err
	}
	more, err := k.extras.Of(in.GetId())
	if err != nil {
		return err
	}
	if more != nil { // it is to be used again
		kept := *more
		more = &kept
		more.Options = k.moveOptions(more.Options)
	}
	n.PlainNode, err = socket.NewPlainNode(e.GetId(), in.GetId(), in.GetFlags(), in.GetFown(), more, k.loader(n.sort), socket.Entries{Sock: in.GetOpts(), Inet: withOptions(in)})
	if err != nil {
		return err
	}
	if n.unseen, err = k.planUnseen(n.sort, n.More); err == nil {
		n.groups, err = k.planGroups(n.sort, n.More)
	}
	if err == nil {
		err = errors.Join(n.planQueue(), n.planErrors())
	}
	if err != nil {
		return err
	}
	if n.New = n.unseen.socket; n.unseen.ofOthers() {
		return p.Add(bareTenant{n})
	}
	return p.Add(n)
}

// check refuses what an entry can't be.
func (n *bareNode) check() error {
	in := n.entry
	words := len(in.GetIpOpts().GetRaw().GetIcmpvFilter())
	switch {
	case n.family != unix.AF_INET && n.family != unix.AF_INET6:
		return fmt.Errorf("%s can't be", socket.FamilyName(n.family))
	case in.GetState() != closed && in.GetState() != established:
		return fmt.Errorf("state %s can't be", socket.StateName(int(in.GetState())))
	case n.protocol > unix.IPPROTO_MPTCP: // the last one
		return fmt.Errorf("protocol %d can't be", n.protocol)
	case n.filters6() && words != 0 && words != sizeFilter6/4:
		return fmt.Errorf("an ICMPV6_FILTER of %d words can't be", words)
	case in.GetShutdown() < 0 || in.GetShutdown() > shutBoth:
		return fmt.Errorf("shutdown state %d can't be", in.GetShutdown())
	}
	return nil
}

// String implements plan.Node.
func (n *bareNode) String() string {
	s := fmt.Sprintf("raw socket of protocol %d", n.protocol)
	if n.bare == unix.SOCK_DGRAM {
		s = fmt.Sprintf("ping socket, number %d", n.at.port)
	}
	if n.bound() {
		s += " at " + n.at.ip.String()
	}
	if n.to {
		s += " connected to " + n.peer.ip.String()
	}
	return s
}

// bound tells whether it has an address, or a number, of its own.
func (n *bareNode) bound() bool {
	return n.at.ip.IsValid() && !n.at.ip.IsUnspecified() || n.bare == unix.SOCK_DGRAM && n.at.port != 0
}

// Create implements plan.Node.
func (n *bareNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	k, err := n.kind.kernel(n.sort)
	if err != nil {
		return nil, err
	}
	var own *fd.FD
	if len(n.queue) > 0 {
		own, err = n.createFull(k)
	} else {
		own, err = n.Make(n.family, n.bare, n.protocol, k, n.open)
	}
	if n.bare == unix.SOCK_DGRAM && errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("a group of Glis's must be in the range of the sysctl net.ipv4.ping_group_range: %w", err)
	}
	return own, err
}

// open gives it its addresses. A raw socket gets what comes for it from the
// first moment on: that isn't what it would have got, and goes.
func (n *bareNode) open(own int) error {
	if err := errors.Join(n.setFilter6(own), n.unseen.set(own)); err != nil {
		return err
	}
	for _, g := range n.groups {
		if err := g.join(own); err != nil {
			return err
		}
	}
	zone, err := zoneOf(n.family, n.entry.GetIfname())
	if err != nil {
		return err
	}
	if n.to {
		err = n.connect(own, zone)
	} else if n.bound() {
		err = n.bind(own, zone)
	}
	if err != nil {
		return err
	}
	if n.bare == unix.SOCK_RAW && len(n.queue) == 0 {
		err = drain(own)
	}
	if err == nil {
		err = n.failAgain(own)
	}
	return errors.Join(err, n.shut(own))
}

// shut shuts the socket down as it was.
func (n *bareNode) shut(own int) error {
	how := int(n.entry.GetShutdown()) - 1 // SHUT_RD, SHUT_WR, SHUT_RDWR
	if how < 0 {
		return nil
	}
	// It works on a socket that isn't connected, although it says otherwise.
	if err := unix.Shutdown(own, how); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("shutdown %d: %w", how, err)
	}
	return nil
}

func (n *bareNode) bind(own, zone int) error {
	if n.placed {
		return nil
	}
	at := n.at
	if n.bare == unix.SOCK_RAW {
		at.port = 0
	}
	err := n.unseen.bindAt(own, at, zone)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("bind to %v: another ping has this number; end it: %w", at, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("bind to %v: this machine doesn't have that address; add it: %w", at, err)
	case err != nil:
		return fmt.Errorf("bind to %v: %w", at, err)
	}
	return nil
}

// connect gives it its peer. The address that it is bound to may be one that
// the kernel has chosen then; that must be chosen again, so that it goes with
// the peer.
func (n *bareNode) connect(own, zone int) error {
	if n.bare == unix.SOCK_DGRAM {
		if err := n.bind(own, zone); err != nil {
			return err
		}
		return n.reach(own, zone)
	}
	chosen, err := n.chosen(zone)
	if err == nil && chosen != n.at.ip {
		err = n.bind(own, zone)
	}
	if err != nil {
		return err
	}
	return n.reach(own, zone)
}

// chosen is the address that the kernel chooses for one with this peer. Another socket
// is asked: one that is disconnected again gets nothing any more.
func (n *bareNode) chosen(zone int) (netip.Addr, error) {
	num, err := unix.Socket(n.family, n.bare|unix.SOCK_CLOEXEC, n.protocol)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(num)
	connect := func() error { return unix.Connect(num, n.peer.sockaddr(n.family, zone)) } // without a flow label, which is not its own
	if err := errors.Join(socket.AttachDevice(num, n.entry.GetOpts()), n.unseen.abroad(num, transparent, connect)); err != nil {
		return netip.Addr{}, fmt.Errorf("connect to %v: %w", n.peer, err)
	}
	sa, err := unix.Getsockname(num)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("getsockname: %w", err)
	}
	return decode(sa).ip, nil
}

func (n *bareNode) reach(own, zone int) error {
	if err := n.unseen.connectTo(own, n.peer, zone); err != nil {
		return fmt.Errorf("connect to %v: %w", n.peer, err)
	}
	return nil
}

func (n *bareNode) setFilter6(own int) error {
	filter := n.entry.GetIpOpts().GetRaw().GetIcmpvFilter()
	if !n.filters6() || len(filter) == 0 {
		return nil
	}
	var b []byte
	for _, w := range filter {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	if err := linux.Setsockopt(own, unix.IPPROTO_ICMPV6, icmp6Filter, b); err != nil {
		return fmt.Errorf("set ICMPV6_FILTER: %w", err)
	}
	return nil
}

// words is bytes as words of this machine.
func words(b []byte) []uint32 {
	out := make([]uint32, 0, len(b)/4)
	for ; len(b) >= 4; b = b[4:] {
		out = append(out, binary.NativeEndian.Uint32(b))
	}
	return out
}

// drain takes what has come.
func drain(own int) error {
	var buf [1]byte
	for {
		_, _, err := unix.Recvfrom(own, buf[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("empty its queue: %w", err)
		}
	}
}
