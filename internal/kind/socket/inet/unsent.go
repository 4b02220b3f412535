package inet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// unsent is what was given with MSG_MORE, or under UDP_CORK.
type unsent struct {
	data  []byte
	to    netip.AddrPort // invalid: the peer, which it need not go to
	given []control      // with it
	from  netip.Addr     // invalid: the socket's
	via   string         // interface, "" if none was given
}

// control is a control message of cmsg(3).
type control struct {
	level, name int
	value       []byte
}

// unsentNames are the members of structures that are read of what isn't sent yet.
func unsentNames() []string {
	return []string{
		"inet_sock.cork", "inet_cork_full.fl", "inet_cork.opt", "flowi4.daddr", "flowi4.saddr", "flowi4.uli", "flowi6.daddr", "flowi6.saddr", "flowi6.uli", "flowi6.flowlabel",
		"flowi_common.flowic_oif", "inet_cork.dst", "dst_entry.dev", "net_device.ifindex",
		"inet_cork.ttl", "inet_cork.tos", "inet_cork.priority", "inet_cork.tx_flags", "inet_cork.transmit_time", "inet_cork.mark", "inet_cork.gso_size",
		"ipv6_pinfo.cork", "inet6_cork.opt", "inet6_cork.hop_limit", "inet6_cork.tclass",
	}
}

// readUnsent reads what is to be sent when the process gives the rest. It is
// kept as the packets that will be made of it, headers left out.
func (l *look) readUnsent(m *kmem.Reader, s *kmem.Struct) (*unsent, error) {
	cork := s.In("inet_sock.cork")
	if cork.Pointer("inet_cork.opt") != 0 {
		return nil, fmt.Errorf("%w: what isn't sent yet has options of its own (IP_RETOPTS, IPV6_HOPOPTS)", errInbox)
	}
	u, first := &unsent{}, true
	err := m.Buffers(s.At+m.Off("sock.sk_write_queue"), mostQueued, func(buf *kmem.Buffer) error {
		skip := int(header(buf, "sk_buff.transport_header") - buf.Pointer("sk_buff.data"))
		if first && skip >= 0 {
			skip += udpHeader
		}
		first = false
		if skip < 0 || skip > len(buf.Data) {
			return fmt.Errorf("%w: %d of %d bytes of what isn't sent yet are headers", errInbox, skip, len(buf.Data))
		}
		u.data = append(u.data, buf.Data[skip:]...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	flow, six := cork.In("inet_cork_full.fl"), s.U32("udp_sock.pending") == unix.AF_INET6
	if to := destination(flow, six); !l.peer.set() || to != l.peer.addrPort() {
		u.to = to
	}
	if err := l.readGiven(cork, u); err != nil {
		return nil, err
	}
	if six {
		if l.turnedTo4(u.to) {
			return nil, fmt.Errorf("%w: what isn't sent yet was to go over IPv6, and its address is gone since the socket was connected over IPv4, or no route leads there any more", errInbox)
		}
		return u, l.readGiven6(m, s, flow, u)
	}
	return u, l.readGiven4(m, cork, flow, u)
}

// turnedTo4 tells whether a socket with something for IPv6 was connected over IPv4 since: connect(2)
// has the kernel write the new flow over the old one, and what is left leads nowhere.
func (l *look) turnedTo4(to netip.AddrPort) bool {
	if l.peer.set() {
		return l.peer.ip.Is4In6() || l.peer.ip.Is4()
	}
	return to.IsValid() && !reachable(to)
}

// reachable tells whether a datagram over IPv6 finds a way.
func reachable(to netip.AddrPort) bool {
	n, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true // as far as is known
	}
	defer unix.Close(n) //nolint:errcheck // it sent nothing
	return !errors.Is(unix.Connect(n, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}), unix.ENETUNREACH)
}

func destination(flow *kmem.Struct, six bool) netip.AddrPort {
	port := func(name string) uint16 { return binary.BigEndian.Uint16(flow.Raw(name, 2)) }
	if six {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(flow.Raw("flowi6.daddr", 16))), port("flowi6.uli"))
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(flow.Raw("flowi4.daddr", 4))), port("flowi4.uli"))
}

// give notes a control message with a number of size bytes.
func (u *unsent) give(level, name, size int, v uint64) {
	b := binary.NativeEndian.AppendUint64(nil, v)
	u.given = append(u.given, control{level, name, b[:size]})
}

// readGiven reads what a datagram may be given, whichever IP it goes over, and
// differs from what the socket gives.
func (l *look) readGiven(cork *kmem.Struct, u *unsent) error {
	if v := cork.U32("inet_cork.mark"); uint64(v) != l.value("SO_MARK") {
		u.give(unix.SOL_SOCKET, unix.SO_MARK, 4, uint64(v))
	}
	if v := uint64(cork.Pointer("inet_cork.transmit_time")); v != 0 {
		u.give(unix.SOL_SOCKET, unix.SCM_TXTIME, 8, v)
	}
	if v := cork.U16("inet_cork.gso_size"); uint64(v) != l.value("UDP_SEGMENT") {
		u.give(unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2, uint64(v))
	}
	if cork.U8("inet_cork.tx_flags") != 0 && l.value("SO_TIMESTAMPING") == 0 {
		return fmt.Errorf("%w: what isn't sent yet is to be reported when it is (SO_TIMESTAMPING as a control message)", errInbox)
	}
	return nil
}

// readGiven4 is readGiven for what only goes with IPv4.
func (l *look) readGiven4(m *kmem.Reader, cork, flow *kmem.Struct, u *unsent) error {
	if v := cork.U8("inet_cork.ttl"); v != 0 {
		u.give(unix.IPPROTO_IP, unix.IP_TTL, 4, uint64(v))
	}
	tos := int16(cork.U16("inet_cork.tos"))
	if tos >= 0 {
		u.give(unix.IPPROTO_IP, unix.IP_TOS, 4, uint64(tos))
	}
	l.readPriority(cork, u, tos >= 0)
	if from := netip.AddrFrom4([4]byte(flow.Raw("flowi4.saddr", 4))); from != l.at.ip.Unmap() {
		u.from = from
	}
	dev, err := m.Pointer(cork.Pointer("inet_cork.dst") + m.Off("dst_entry.dev"))
	if err != nil {
		return err
	}
	var index [4]byte
	if err := m.ReadAt(index[:], dev+m.Off("net_device.ifindex")); err != nil {
		return err
	}
	return u.sentVia(int(binary.NativeEndian.Uint32(index[:])))
}

// readPriority notes a priority that neither the socket nor its type of service
// gives. Kernels without SO_RCVPRIORITY take none.
func (l *look) readPriority(cork *kmem.Struct, u *unsent, derived bool) {
	k := l.kind.kernels[l.sort]
	if fresh, ok := k.Value(k.Fresh, "SO_RCVPRIORITY"); !ok || !fresh.OK {
		return
	}
	v := uint64(cork.U32("inet_cork.priority"))
	if v != l.value("SO_PRIORITY") || derived {
		u.give(unix.SOL_SOCKET, unix.SO_PRIORITY, 4, v)
	}
}

// readGiven6 is readGiven for what only goes with IPv6: what isn't given is
// taken from the socket when the first part comes.
func (l *look) readGiven6(m *kmem.Reader, s, flow *kmem.Struct, u *unsent) error {
	six, err := m.Struct("ipv6_pinfo", s.Pointer("inet_sock.pinet6"))
	if err != nil {
		return err
	}
	cork := six.In("ipv6_pinfo.cork")
	if cork.Pointer("inet6_cork.opt") != 0 && len(l.more.GetLong()) == 0 {
		return fmt.Errorf("%w: what isn't sent yet has headers of its own (IPV6_HOPOPTS and the like)", errInbox)
	}
	label := func(s *kmem.Struct, name string) uint32 { return binary.BigEndian.Uint32(s.Raw(name, 4)) & mostLabel }
	usual := uint32(0)
	if !u.to.IsValid() {
		usual = label(six, "ipv6_pinfo.flow_label")
	}
	if label(flow, "flowi6.flowlabel") != usual {
		return fmt.Errorf("%w: what isn't sent yet has a flow label of its own (sin6_flowinfo)", errInbox)
	}
	u.give(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 4, uint64(cork.U8("inet6_cork.hop_limit")))
	u.give(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4, uint64(cork.U8("inet6_cork.tclass")))
	l.readPriority(s.In("inet_sock.cork"), u, false)
	if from := netip.AddrFrom16([16]byte(flow.Raw("flowi6.saddr", 16))); from != l.at.ip {
		u.from = from
	}
	return u.sentVia(int(flow.U32("flowi_common.flowic_oif")))
}

// sentVia notes the interface that a datagram leaves by, if an interface has to
// do with it.
func (u *unsent) sentVia(index int) error {
	if index == 0 {
		return nil
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return fmt.Errorf("interface %d, which what isn't sent yet leaves by: %w", index, err)
	}
	if i.Flags&net.FlagLoopback == 0 {
		u.via = i.Name
	}
	return nil
}

// entry is what images have of it.
func (u *unsent) entry() *extra.Unsent {
	e := &extra.Unsent{Data: append([]byte{}, u.data...)} // there may be none yet
	if u.to.IsValid() {
		e.To, e.Port = u.to.Addr().AsSlice(), proto.Uint32(uint32(u.to.Port()))
	}
	for _, c := range u.given {
		e.Given = append(e.Given, &extra.SocketOption{Level: proto.Uint32(uint32(c.level)), Name: proto.Uint32(uint32(c.name)), Value: c.value})
	}
	if u.from.IsValid() || u.via != "" {
		e.From = &extra.PacketInfo{Address: append([]byte{}, u.from.AsSlice()...)} // none is the socket's
	}
	if u.via != "" {
		e.From.Interface = &u.via
	}
	return e
}

func (n *node) planUnsent(e *extra.Unsent) error {
	if e == nil {
		return nil
	}
	u := &unsent{data: e.GetData()}
	if len(e.GetTo()) > 0 {
		to, ok := netip.AddrFromSlice(e.GetTo())
		if !ok || e.GetPort() == 0 || e.GetPort() > math.MaxUint16 || to.Is6() && n.family == unix.AF_INET {
			return fmt.Errorf("an address of %d bytes, port %d can't be", len(e.GetTo()), e.GetPort())
		}
		u.to = netip.AddrPortFrom(to, uint16(e.GetPort()))
	}
	if !u.to.IsValid() && !n.peer.set() {
		return errors.New("where what isn't sent yet is to go can't be")
	}
	n.inbox.unsent = u
	if err := u.plan(e); err != nil {
		return err
	}
	u.from = n.kind.moveIP(u.from)
	return nil
}

// controls are the control messages that what isn't sent yet may be given with,
// and how many bytes they have.
var controls = map[[2]int]int{
	{unix.SOL_SOCKET, unix.SO_MARK}: 4, {unix.SOL_SOCKET, unix.SCM_TXTIME}: 8, {unix.SOL_SOCKET, unix.SO_PRIORITY}: 4,
	{unix.IPPROTO_UDP, unix.UDP_SEGMENT}: 2, {unix.IPPROTO_IP, unix.IP_TTL}: 4, {unix.IPPROTO_IP, unix.IP_TOS}: 4,
	{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}: 4, {unix.IPPROTO_IPV6, unix.IPV6_TCLASS}: 4,
}

// plan checks and takes what it was given with.
func (u *unsent) plan(e *extra.Unsent) error {
	for _, g := range e.GetGiven() {
		c := control{int(g.GetLevel()), int(g.GetName()), g.GetValue()}
		if size := controls[[2]int{c.level, c.name}]; size == 0 || size != len(c.value) || len(u.given) == len(controls) {
			return fmt.Errorf("control message %d of level %d, of %d bytes, can't go with what isn't sent yet", c.name, c.level, len(c.value))
		}
		u.given = append(u.given, c)
	}
	u.via = e.GetFrom().GetInterface()
	if b := e.GetFrom().GetAddress(); len(b) > 0 {
		var ok bool
		if u.from, ok = netip.AddrFromSlice(b); !ok {
			return fmt.Errorf("what isn't sent yet can't come from an address of %d bytes", len(b))
		}
	}
	return nil
}

// control returns the control messages that it is given with.
func (u *unsent) control(four bool) ([]byte, error) {
	var out bytes.Buffer
	for _, c := range u.given {
		out.Write(linux.Cmsg(c.level, c.name, c.value))
	}
	if !u.from.IsValid() && u.via == "" {
		return out.Bytes(), nil
	}
	index, err := indexOf(u.via)
	if err != nil {
		return nil, fmt.Errorf("interface %q, which it leaves by: %w", u.via, err)
	}
	ne := binary.NativeEndian
	if four { // struct in_pktinfo: interface, address, another one
		from := netip.IPv4Unspecified()
		if u.from.IsValid() {
			from = u.from.Unmap()
		}
		out.Write(linux.Cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, append(append(ne.AppendUint32(nil, uint32(index)), from.AsSlice()...), 0, 0, 0, 0)))
		return out.Bytes(), nil
	}
	from := netip.IPv6Unspecified()
	if u.from.IsValid() {
		from = u.from
	}
	out.Write(linux.Cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, ne.AppendUint32(from.AsSlice(), uint32(index))))
	return out.Bytes(), nil
}

// keepUnsent gives the socket what it is to send when it gets the rest.
func (n *node) keepUnsent(own int) error {
	u := n.inbox.unsent
	if u == nil {
		return nil
	}
	target := u.to
	var to unix.Sockaddr
	if target.IsValid() {
		to = n.addressOf(target).sockaddr(n.family, 0)
	} else {
		target = n.peer.addrPort()
	}
	control, err := u.control(target.Addr().Unmap().Is4())
	if err != nil {
		return fmt.Errorf("what it sends later: %w", err)
	}
	if u.to.IsValid() && n.at.port == 0 {
		return n.keepParted(own, control)
	}
	if err := unix.Sendmsg(own, u.data, control, to, unix.MSG_MORE|unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("give it %d bytes to send later: %w", len(u.data), err)
	}
	return nil
}

// keepParted is keepUnsent for a socket that was disconnected meanwhile: that took its port,
// which it would have if it was given an address.
func (n *node) keepParted(own int, control []byte) error {
	u := n.inbox.unsent
	to := n.addressOf(u.to)
	err := to.anywhere(func(zone int) error { return n.unseen.connectTo(own, to, zone) })
	if err != nil {
		return fmt.Errorf("connect to %v, which it was connected to: %w", to, err)
	}
	if err := unix.Sendmsg(own, u.data, control, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("give it %d bytes to send later: %w", len(u.data), err)
	}
	if err := linux.Connect(own, binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC)); err != nil {
		return fmt.Errorf("disconnect from %v: %w", to, err)
	}
	return errors.Join(socket.AttachDevice(own, n.opts.Entry), n.hearOnly(own)) // who is disconnected belongs to none
}
