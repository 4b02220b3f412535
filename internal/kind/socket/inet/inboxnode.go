package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// readDatagrams reads what putInbox wrote.
func (k *Kind) readDatagrams(src plan.Source) error {
	k.datagrams = map[plan.ID]*inbox{}
	more, err := src.Entries(extra.Datagrams)
	for _, m := range more {
		e := m.Message.(*extra.Datagram)
		d, err := parseDatagram(e)
		if err != nil {
			return fmt.Errorf("%s: %w", extra.Datagrams.Pattern, err)
		}
		box := k.datagrams[plan.ID(e.GetSocket())]
		if box == nil {
			box = &inbox{}
			k.datagrams[plan.ID(e.GetSocket())] = box
		}
		k.moveTo(d, e.GetError())
		if e.GetError() {
			box.errs = append(box.errs, d)
		} else {
			box.waiting = append(box.waiting, d)
		}
	}
	return err
}

func parseDatagram(e *extra.Datagram) (*datagram, error) {
	d := &datagram{hops: uint8(e.GetHops()), class: uint8(e.GetClass()), device: e.GetInterface(), body: e.GetData()}
	var ok, ok2 bool
	d.from, ok = netip.AddrFromSlice(e.GetFrom())
	d.to, ok2 = netip.AddrFromSlice(e.GetTo())
	const room = math.MaxUint16 - ip6Header
	switch {
	case !ok || !ok2 || d.from.Is4() != d.to.Is4():
		return nil, fmt.Errorf("a datagram between addresses of %d and %d bytes can't be", len(e.GetFrom()), len(e.GetTo()))
	case e.GetHops() > math.MaxUint8 || e.GetClass() > math.MaxUint8 || len(d.body) < udpHeader || len(d.body) > room:
		return nil, fmt.Errorf("a datagram of %d bytes, hops %d, class %d can't be", len(d.body), e.GetHops(), e.GetClass())
	case d.device != "" && !d.local():
		return nil, fmt.Errorf("a datagram between %v and %v has no interface", d.from, d.to)
	case e.GetError() && !d.isError():
		return nil, fmt.Errorf("an ICMP message of type %d is no error", d.body[0])
	case !e.GetError() && int(binary.BigEndian.Uint16(d.body[4:])) != len(d.body):
		return nil, fmt.Errorf("a datagram of %d bytes says it has %d", len(d.body), binary.BigEndian.Uint16(d.body[4:]))
	}
	return d, nil
}

// isError tells whether it is an ICMP message of a sort that is about another
// packet.
func (d *datagram) isError() bool {
	if d.to.Is6() {
		const last6 = 4 // ICMPV6_PARAMPROB
		return d.body[0] >= 1 && d.body[0] <= last6
	}
	const unreachable, exceeded, parameter = 3, 11, 12 // RFC 792
	return d.body[0] == unreachable || d.body[0] == exceeded || d.body[0] == parameter
}

// planInbox checks what is in the queues of a UDP socket.
func (n *node) planInbox(x *extra.SocketEntry) error {
	box := n.kind.datagrams[n.id]
	if !n.datagrams() {
		if box != nil || x.GetUnsent() != nil {
			return errors.New("datagrams wait, and it isn't UDP: that can't be")
		}
		return nil
	}
	if box == nil && x.GetUnsent() == nil && x.GetError() == 0 {
		return nil
	}
	if box == nil {
		box = &inbox{}
	}
	box.err = unix.Errno(x.GetError())
	for _, d := range append(box.waiting[:len(box.waiting):len(box.waiting)], box.errs...) {
		if n.family == unix.AF_INET && d.to.Is6() {
			return errors.New("datagrams of IPv6 wait at a socket of IPv4: that can't be")
		}
	}
	for _, d := range box.waiting {
		if to := binary.BigEndian.Uint16(d.body[2:]); to != n.at.port || to == 0 {
			return fmt.Errorf("a datagram to port %d can't wait at port %d", to, n.at.port)
		}
	}
	if box.err != 0 && len(box.errs) == 0 && (icmpCode(box.err) < 0 || !n.peer.set() || n.at.port == 0) {
		return fmt.Errorf("an error that waits (%v) can't be made again", box.err)
	}
	n.inbox = box
	if n.lite() {
		if err := n.planLiteInbox(); err != nil {
			return err
		}
	}
	return n.planUnsent(x.GetUnsent())
}

// checkInbox makes sure that the datagrams can come back.
func (n *node) checkInbox() error {
	if n.inbox == nil || len(n.inbox.waiting) == 0 || n.lite() || n.kind.feeds {
		return nil
	}
	f, err := newFeeder()
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("file %#x, %v: datagrams wait to be read: %w", n.id, n, err)
	}
	n.kind.feeds = true
	return nil
}

// finishInbox gives a socket that is bound its peer and what was in its queues.
func (n *node) finishInbox(own *fd.FD, k *socket.Kernel) error {
	num := own.Int()
	var touched []string
	if len(n.inbox.waiting) > 0 {
		touched = append(touched, "SO_RCVBUF")
	}
	connect, receive := func() error { return n.connect(num) }, func() error { return n.receive(num) }
	if n.lite() { // it may have come from somebody else, before
		connect, receive = receive, connect
	}
	steps := []func() error{
		connect, receive,
		func() error { return n.fail(num) },
		func() error { return socket.AttachFilter(num, n.opts.Entry) },
		func() error { return socket.AttachEBPF(num, n.unseen.entry.GetFilter()) },
		func() error { return k.Set(num, n.opts.Values, socket.Late, socket.Last, touched...) },
		func() error { return n.keepUnsent(num) },
		func() error { return n.shut(num) },
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return n.flags(own)
}

// receive puts datagrams into the queue.
func (n *node) receive(own int) (err error) {
	all := n.inbox.waiting
	if len(all) == 0 {
		return nil
	}
	k := n.kind
	if k.feeder == nil && !n.lite() {
		if k.feeder, err = newFeeder(); err != nil {
			return fmt.Errorf("put %d datagrams back: %w", len(all), err)
		}
	}
	if err := unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, math.MaxInt32/2); err != nil {
		return fmt.Errorf("set SO_RCVBUFFORCE: %w", err)
	}
	if n.lite() {
		return n.receiveLite(own)
	}
	// Among those that share a port the kernel would choose.
	reuse := func(on int) error {
		if n.number("SO_REUSEPORT") == 0 {
			return nil
		}
		return linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_REUSEPORT, Value: on}.Set(own)
	}
	if err := reuse(0); err != nil {
		return err
	}
	return errors.Join(k.feeder.feed(own, all), reuse(1))
}

// fail has errors wait to be reported: the ICMP messages that brought them come
// once more.
func (n *node) fail(own int) error {
	box := n.inbox
	all := box.errs
	if len(all) == 0 && box.err == 0 {
		return nil
	}
	if len(all) == 0 {
		all = []*datagram{n.refusal(icmpCode(box.err))}
	}
	for _, d := range all {
		protocol := uint8(unix.IPPROTO_ICMP)
		if d.to.Is6() {
			protocol = unix.IPPROTO_ICMPV6
		}
		if err := d.packet(protocol, 2).Send(d.to); err != nil {
			return fmt.Errorf("send it an ICMP message as if from %v: %w", d.from, err)
		}
	}
	err := arrived(func() (bool, error) {
		p := []unix.PollFd{{Fd: int32(own)}}
		_, err := linux.PollNow(p)
		return p[0].Revents&unix.POLLERR != 0, err
	})
	if err != nil {
		return fmt.Errorf("an ICMP message as if from %v: %w", all[0].from, err)
	}
	if box.err == 0 { // it was read, and the message wasn't
		_, err = unix.GetsockoptInt(own, unix.SOL_SOCKET, unix.SO_ERROR)
	}
	return err
}

// icmpCode is the code of ICMP's destination unreachable (RFC 792, RFC 1122)
// that is reported as this error even by a socket that has not asked for more;
// -1 if there is none.
func icmpCode(e unix.Errno) int {
	switch e {
	case unix.ENOPROTOOPT:
		return 2
	case unix.ECONNREFUSED:
		return 3
	case unix.EHOSTDOWN:
		return 7
	}
	return -1
}

// refusal is an ICMP message that tells the socket that its peer can't be
// reached.
func (n *node) refusal(code int) *datagram {
	at, peer := n.at.addrPort(), n.peer.addrPort()
	sent := &datagram{from: at.Addr(), to: peer.Addr(), hops: 64}
	sent.body = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, at.Port()), peer.Port())
	sent.body = append(sent.body, 0, udpHeader, 0, 0)
	d := &datagram{from: peer.Addr(), to: at.Addr(), hops: 64}
	if d.local() {
		d.device = n.entry.ifname
	}
	head := []byte{3, byte(code), 0, 0, 0, 0, 0, 0}
	if d.to.Is6() {
		const unreachable6, noPort6 = 1, 4 // RFC 4443
		head[0], head[1] = unreachable6, noPort6
	}
	d.body = append(head, sent.packet(uint8(n.protocol), 6).Bytes()...)
	return d
}
