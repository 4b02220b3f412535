package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
)

// failed is a socket, of UDP, of ping or a raw one, at which errors wait to be reported:
// the ICMP messages that brought them come once more. Whose they are the kernel tells by
// the packet that they are about, which is in them.
type failed struct {
	*inbox
	at, peer address
	protocol int    // of what it sends
	device   string // of a link-local address
	raw      bool
	mark     int // of the messages; 0: see socket.Packet
	// turn connects it to another peer; nil: it need not be.
	turn func(own int, peer address) error
}

// failed is the socket's.
func (n *node) failed() *failed {
	return &failed{inbox: n.inbox, at: n.at, peer: n.peer, protocol: n.protocol, device: n.entry.ifname, turn: n.turn}
}

// turn connects a UDP socket that is connected to another peer.
func (n *node) turn(own int, peer address) error {
	zone, err := n.zone()
	if err == nil {
		err = n.unseen.connectTo(own, peer, zone)
	}
	if err != nil {
		return fmt.Errorf("connect to %v: %w", peer, err)
	}
	return nil
}

// possible tells whether the errors can be brought about again. One without its message
// was of a sort that is reported to who has not asked for messages.
func (f *failed) possible() bool {
	if len(f.errs) > 0 {
		return !slices.ContainsFunc(f.errs, f.strange)
	}
	if f.err == 0 {
		return true
	}
	typ, _ := f.cause()
	return typ != 0 && f.peer.set() && f.at.port != 0
}

// strange tells whether a message is about a packet that a UDP socket would not have sent
// since: from a port that it has no more, as one that was disconnected, or, if it is connected,
// of the other family.
func (f *failed) strange(d *datagram) bool {
	protocol, _, _, body, ok := d.about()
	if !ok || f.raw || protocol != unix.IPPROTO_UDP && protocol != unix.IPPROTO_UDPLITE {
		return false
	}
	return binary.BigEndian.Uint16(body) != f.at.port || f.peer.set() && d.to.Is6() != f.at.addrPort().Addr().Is6()
}

// meant returns the peer that a UDP socket has to be connected to, to be told what a message
// says, if it is connected: whom the packet was to. It may be connected to somebody else since.
func (f *failed) meant(d *datagram) address {
	protocol, _, to, body, ok := d.about()
	if !ok || !f.peer.set() || f.turn == nil || protocol != uint8(f.protocol) {
		return f.peer
	}
	at := address{to, binary.BigEndian.Uint16(body[2:])}
	if at.addrPort() == f.peer.addrPort() {
		return f.peer
	}
	if f.peer.ip.Is6() && to.Is4() {
		at.ip = netip.AddrFrom16(to.As16())
	}
	return at
}

// again has the errors wait.
func (f *failed) again(own int) error {
	if len(f.errs) > 0 {
		return f.tellAll(own, f.errs)
	}
	if f.err == 0 {
		return nil
	}
	back, err := unasked(own)
	if err == nil {
		err = f.tellAll(own, []*datagram{f.message()})
	}
	return errors.Join(err, back())
}

// unasked has a socket ask for no messages, until back is called: it had not when that came of
// which there is an error alone.
func unasked(own int) (back func() error, err error) {
	var asked []linux.SockOpt
	back = func() (err error) {
		for _, o := range asked {
			err = errors.Join(err, o.Set(own))
		}
		return err
	}
	for _, o := range []linux.SockOpt{{Level: unix.IPPROTO_IP, Name: unix.IP_RECVERR}, {Level: unix.IPPROTO_IPV6, Name: unix.IPV6_RECVERR}} {
		was, err := unix.GetsockoptInt(own, o.Level, o.Name)
		if err != nil || was == 0 {
			continue // or it is none of IPv6
		}
		if err := o.Set(own); err != nil {
			return back, err
		}
		o.Value = was
		asked = append(asked, o)
	}
	return back, nil
}

// tellAll sends it messages, each as it is connected to whom that is about.
func (f *failed) tellAll(own int, all []*datagram) error {
	peer := f.peer
	for _, d := range all {
		if now := f.meant(d); now != peer {
			if err := f.turn(own, now); err != nil {
				return err
			}
			peer = now
		}
		if err := f.tell(own, d); err != nil {
			return err
		}
	}
	if peer != f.peer {
		if err := f.turn(own, f.peer); err != nil {
			return err
		}
	}
	if f.err != 0 {
		return nil
	}
	_, err := unix.GetsockoptInt(own, unix.SOL_SOCKET, unix.SO_ERROR) // it was read, and the message wasn't
	return err
}

// tell sends it a message, and waits until it has it: messages take room as datagrams do.
func (f *failed) tell(own int, d *datagram) error {
	before, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
	if err != nil {
		return err
	}
	protocol := uint8(unix.IPPROTO_ICMP)
	if d.to.Is6() {
		protocol = unix.IPPROTO_ICMPV6
	}
	p := d.packet(protocol, 2)
	p.Mark = f.mark
	if err := p.Send(d.to); err != nil {
		return fmt.Errorf("send it an ICMP message as if from %v: %w", d.from, err)
	}
	err = arrived(func() (bool, error) {
		if len(f.errs) > 0 {
			now, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
			return now > before, err
		}
		p := []unix.PollFd{{Fd: int32(own)}}
		_, err := linux.PollNow(p)
		return p[0].Revents&unix.POLLERR != 0, err
	})
	if err != nil {
		return fmt.Errorf("an ICMP message as if from %v: %w", d.from, err)
	}
	return nil
}

// Types of ICMP messages (RFC 792, 4443), and of what they are about.
const (
	unreachable  = 3
	parameter    = 12
	unreachable6 = 1
	parameter6   = 4
	echo         = 8
	echo6        = 128
)

// causes are the messages, by type and code, that are reported as an error even by a
// socket that has not asked for more: icmp_err_convert of net/ipv4/icmp.c and
// tab_unreach of net/ipv6/icmp.c.
var (
	causes = map[unix.Errno][2]byte{
		unix.ENOPROTOOPT: {unreachable, 2}, unix.ECONNREFUSED: {unreachable, 3}, unix.ENETUNREACH: {unreachable, 6}, unix.EHOSTDOWN: {unreachable, 7},
		unix.ENONET: {unreachable, 8}, unix.EHOSTUNREACH: {unreachable, 10}, unix.EPROTO: {parameter, 0},
	}
	causes6 = map[unix.Errno][2]byte{
		unix.EACCES: {unreachable6, 1}, unix.ECONNREFUSED: {unreachable6, 4}, unix.EPROTO: {parameter6, 0},
	}
)

// cause is the type and the code of the message that brings the error; 0 if none does.
func (f *failed) cause() (typ, code byte) {
	c := causes[f.err]
	if f.at.addrPort().Addr().Is6() {
		c = causes6[f.err]
	}
	return c[0], c[1]
}

// message is one about a packet to the peer.
func (f *failed) message() *datagram {
	typ, code := f.cause()
	at, peer := f.at.addrPort(), f.peer.addrPort()
	if at.Addr().Is6() != peer.Addr().Is6() { // see strayed
		peer = netip.AddrPortFrom(at.Addr(), discard)
	}
	sent := &datagram{from: at.Addr(), to: peer.Addr(), hops: 64}
	be := binary.BigEndian
	sum := 6 // where its checksum is
	switch {
	case f.raw: // what only has to be so long
		sent.body = make([]byte, 8)
	case f.protocol == unix.IPPROTO_ICMP, f.protocol == unix.IPPROTO_ICMPV6: // echo request: type, code, checksum, number
		sent.body, sum = []byte{echo, 0, 0, 0, 0, 0, 0, 1}, 2
		if sent.to.Is6() {
			sent.body[0] = echo6
		}
		be.PutUint16(sent.body[4:], at.Port())
	default:
		sent.body = be.AppendUint16(be.AppendUint16(nil, at.Port()), peer.Port())
		sent.body = append(sent.body, 0, udpHeader, 0, 0)
	}
	d := &datagram{from: peer.Addr(), to: at.Addr(), hops: 64}
	if d.local() {
		d.device = f.device
	}
	d.body = append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, sent.packet(uint8(f.protocol), sum).Bytes()...)
	return d
}
