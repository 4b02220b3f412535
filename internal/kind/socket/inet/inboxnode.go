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
	"glis.dev/glis/internal/netlock"
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
	d := &datagram{hops: uint8(e.GetHops()), class: uint8(e.GetClass()), label: e.GetLabel(), device: e.GetInterface(), body: e.GetData(), time: e.GetTime(), summed: e.GetSummed()}
	var ok, ok2 bool
	d.from, ok = netip.AddrFromSlice(e.GetFrom())
	d.to, ok2 = netip.AddrFromSlice(e.GetTo())
	const room = math.MaxUint16 - ip6Header
	switch {
	case !ok || !ok2 || d.from.Is4() != d.to.Is4():
		return nil, fmt.Errorf("a datagram between addresses of %d and %d bytes can't be", len(e.GetFrom()), len(e.GetTo()))
	case e.GetHops() > math.MaxUint8 || e.GetClass() > math.MaxUint8 || len(d.body) < udpHeader || len(d.body) > room:
		return nil, fmt.Errorf("a datagram of %d bytes, hops %d, class %d can't be", len(d.body), e.GetHops(), e.GetClass())
	case d.label > mostLabel || d.label != 0 && d.to.Is4():
		return nil, fmt.Errorf("a datagram with the flow label %#x can't be", d.label)
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
	const exceeded = 11 // RFC 792
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
	if n.inbox = box; !n.failed().possible() {
		return fmt.Errorf("an error that waits (%v) can't be made again", box.err)
	}
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
	if err := canFeed(); err != nil {
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
	if n.hearsLate() { // it may have come from somebody else, before
		connect, receive = receive, func() error { return errors.Join(n.connect(num), n.hearOnly(num)) }
	}
	steps := []func() error{
		connect, receive,
		func() error { return n.failed().again(num) },
		func() error { return socket.AttachFilter(num, n.opts.Entry) },
		func() error { return socket.AttachEBPF(num, n.unseen.entry.GetFilter()) },
		func() error { return k.Set(num, n.values(), socket.Late, socket.Last, touched...) },
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
		if n.number("SO_REUSEPORT") == 0 && !n.beside {
			return nil
		}
		return linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_REUSEPORT, Value: on}.Set(own)
	}
	if err := reuse(0); err != nil {
		return err
	}
	return errors.Join(k.feeder.feed(own, all), reuse(1), n.hearAll(own))
}

// deafen has a socket hear nothing but what Glis sends, by its mark, until its queue is as it
// was: what comes meanwhile would get in front of that.
func (n *node) deafen(own int) error {
	if n.inbox == nil || len(n.inbox.waiting) == 0 || n.lite() {
		return nil
	}
	const offMark = 0xfffff000 + 20 // SKF_AD_OFF + SKF_AD_MARK of linux/filter.h
	only := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offMark},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: netlock.PassMark},
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
	err := unix.SetsockoptSockFprog(own, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(only)), Filter: &only[0]})
	if err != nil {
		return fmt.Errorf("attach a filter for a moment: %w", err)
	}
	return nil
}

// hearAll takes that back. A filter of the socket's own takes its place.
func (n *node) hearAll(own int) error {
	if n.filtered() {
		return nil
	}
	if err := unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
		return fmt.Errorf("detach a filter: %w", err)
	}
	return nil
}
