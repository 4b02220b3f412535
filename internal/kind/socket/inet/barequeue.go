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
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
)

// What waits at a raw socket, or at one of ping, comes once more over the loopback
// interface, with a gate before all sockets but the one. What the kernel itself
// would act upon can't.

// received is a packet that waits.
type received struct {
	header []byte // of IP
	body   []byte
	device string // see datagram
}

// handled are the protocols that the kernel acts upon, or may.
var handled = map[uint8]bool{
	unix.IPPROTO_IGMP: true, unix.IPPROTO_IPIP: true, unix.IPPROTO_TCP: true, unix.IPPROTO_UDP: true, unix.IPPROTO_DCCP: true, unix.IPPROTO_IPV6: true,
	unix.IPPROTO_GRE: true, unix.IPPROTO_ESP: true, unix.IPPROTO_AH: true, unix.IPPROTO_BEETPH: true, unix.IPPROTO_PIM: true, unix.IPPROTO_COMP: true,
	unix.IPPROTO_L2TP: true, unix.IPPROTO_SCTP: true, unix.IPPROTO_UDPLITE: true, unix.IPPROTO_MPLS: true, unix.IPPROTO_ETHERNET: true,
	ipprotoAggFrag: true,
}

const ipprotoAggFrag = 144 // IPPROTO_AGGFRAG of include/uapi/linux/in.h (Linux 6.8)

// Types of ICMP messages (RFC 792, 8335, 4443).
const (
	echoReply    = 0
	extendedEcho = 42 // and its reply, 43
	echoReply6   = 129
)

// saveQueue writes down what waits.
func (l *bareLook) saveQueue() error {
	count := 0
	err := l.Queue(l.kind.shared(), func(m *kmem.Reader, b *kmem.Buffer) error {
		r, err := l.receive(m, b)
		if err != nil {
			return err
		}
		why := l.sort.wrong(r)
		if why == "" {
			why = l.sort.asked(r)
		}
		if why != "" {
			return l.Refuse("a packet is in its queue, and %s, so nobody could send it once more: let the process read it first", why)
		}
		count++
		e := &extra.QueuedMessage{Socket: &l.File.ID, Header: r.header, Data: r.body}
		if r.device != "" {
			e.Interface = &r.device
		}
		return l.Env.Images.Put(extra.Queued, e, nil)
	})
	if err != nil || count == 0 || l.kind.gates {
		return err
	}
	g, err := newGate()
	if err != nil {
		return l.Refuse("a packet is in its queue, which couldn't be put back: %v; let the process read it first", err)
	}
	l.kind.gates = true
	return g.Close()
}

// receive reads a packet.
func (l *bareLook) receive(m *kmem.Reader, b *kmem.Buffer) (*received, error) {
	size := ip4Header
	if l.family == unix.AF_INET6 {
		size = ip6Header
	}
	r := &received{header: make([]byte, size), body: b.Data}
	if err := m.ReadAt(r.header, header(b, "sk_buff.network_header")); err != nil {
		return nil, err
	}
	if l.bare == unix.SOCK_RAW && l.family == unix.AF_INET { // whose data begin with it
		r.body = b.Data[min(size, len(b.Data)):]
	}
	if l.family == unix.AF_INET {
		return r, nil
	}
	d := r.datagram()
	err := d.findDevice(b)
	r.device = d.device
	return r, err
}

// datagram is what the header says.
func (r *received) datagram() *datagram {
	if len(r.header) == ip4Header {
		return &datagram{from: netip.AddrFrom4([4]byte(r.header[12:])), to: netip.AddrFrom4([4]byte(r.header[16:])), device: r.device}
	}
	return &datagram{from: netip.AddrFrom16([16]byte(r.header[8:])), to: netip.AddrFrom16([16]byte(r.header[24:])), device: r.device}
}

// wrong says why a packet can't wait at a socket of this sort, or can't come once
// more; "" if it can.
func (s sort) wrong(r *received) string {
	be := binary.BigEndian
	if s.family == unix.AF_INET {
		switch {
		case len(r.header) != ip4Header || r.header[0] != 4<<4|ip4Header/4:
			return "its header has options"
		case int(be.Uint16(r.header[2:])) != len(r.header)+len(r.body) || be.Uint16(r.header[6:])&0x3fff != 0:
			return "it is a part of one (IP_NODEFRAG, SO_ATTACH_FILTER)"
		}
		return s.acted(r.header[9], r.body, echoReply)
	}
	switch {
	case len(r.header) != ip6Header || r.header[0]>>4 != 6:
		return "its header can't be"
	case int(r.header[6]) != s.protocol:
		return "its header has extensions"
	case int(be.Uint16(r.header[4:])) != len(r.body):
		return "it is a part of one (SO_ATTACH_FILTER)"
	}
	return s.acted(r.header[6], r.body, echoReply6)
}

// acted says whether the kernel acts upon a packet. What comes by a broadcast of
// IPv4, as it does here, it ignores mostly.
func (s sort) acted(protocol uint8, body []byte, reply uint8) string {
	icmp := protocol == unix.IPPROTO_ICMP && s.family == unix.AF_INET
	icmp6 := protocol == unix.IPPROTO_ICMPV6 && s.family == unix.AF_INET6
	switch {
	case int(protocol) != s.protocol:
		return fmt.Sprintf("it is of protocol %d", protocol)
	case handled[protocol]:
		return fmt.Sprintf("the kernel, too, acts upon protocol %d", protocol)
	case !icmp && !icmp6:
		return ""
	case len(body) < 8:
		return "it is too short for ICMP"
	case (icmp6 || s.bare == unix.SOCK_DGRAM) && body[0] != reply, body[0] == extendedEcho, body[0] == extendedEcho+1:
		return fmt.Sprintf("the kernel, too, acts upon ICMP messages of type %d", body[0])
	}
	return ""
}

// parseReceived is the inverse of saveQueue.
func (s sort) parseReceived(e *extra.QueuedMessage) (*received, error) {
	r := &received{header: e.GetHeader(), body: e.GetData(), device: e.GetInterface()}
	if why := s.wrong(r); why != "" {
		return nil, fmt.Errorf("%s: a packet of %d bytes can't wait at it: %s", extra.Queued.Pattern, len(r.body), why)
	}
	if d := r.datagram(); r.device != "" && !d.local() {
		return nil, fmt.Errorf("%s: a packet between %v and %v has no interface", extra.Queued.Pattern, d.from, d.to)
	}
	return r, nil
}

// readReceived reads what waits at bare sockets.
func (k *Kind) readReceived(src plan.Source) error {
	k.received = map[plan.ID][]*extra.QueuedMessage{}
	all, err := src.Entries(extra.Queued)
	for _, m := range all {
		e := m.Message.(*extra.QueuedMessage)
		if e.Header != nil {
			id := plan.ID(e.GetSocket())
			k.received[id] = append(k.received[id], e)
		}
	}
	return err
}

// planQueue checks what waits.
func (n *bareNode) planQueue() error {
	for _, e := range n.kind.received[n.Self] {
		r, err := n.parseReceived(e)
		if err != nil {
			return err
		}
		n.kind.moveReceived(r)
		n.queue = append(n.queue, r)
	}
	if len(n.queue) > 0 && n.bare == unix.SOCK_DGRAM && n.at.port == 0 {
		return errors.New("replies wait at a ping that has no number: that can't be")
	}
	return nil
}

// Check implements plan.Checked.
func (n *bareNode) Check(env *plan.CheckEnv) error {
	for _, r := range n.queue {
		if why := n.asked(r); why != "" {
			return fmt.Errorf("file %#x, %v: a packet waits to be read, and %s", n.Self, n, why)
		}
	}
	if err := errors.Join(n.PlainNode.Check(env), n.checkHeard(), n.unseen.awaitLabels(env)); err != nil || !n.gated() || n.kind.gates {
		return err
	}
	g, err := newGate()
	if err == nil {
		err = g.Close()
	}
	if err != nil {
		return fmt.Errorf("file %#x, %v: packets, or errors, wait to be read: %w", n.Self, n, err)
	}
	n.kind.gates = true
	return nil
}

// gated tells whether something comes to it that nobody else is to get.
func (n *bareNode) gated() bool { return len(n.queue) > 0 || n.failed != nil && n.failed.raw }

// createFull is Create for a socket with something in its queue. A raw one gets that
// before anything else, as any address or option might keep it out.
func (n *bareNode) createFull(k *socket.Kernel) (own *fd.FD, err error) {
	g, err := newGate()
	if err != nil {
		return nil, fmt.Errorf("put %d packets back: %w", len(n.queue), err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if own, err = n.unseen.socket(); err != nil {
		return nil, err
	}
	num := own.Int()
	begin, fill := func() error { return n.Begin(own, k) }, func() error { return n.fill(num, g.mark) }
	steps := []func() error{func() error { return g.open(num) }, func() error { return drain(num) }, fill, begin}
	if n.bare == unix.SOCK_DGRAM {
		steps = []func() error{begin, func() error { return n.place(num) }, steps[0], fill}
	}
	steps = append(steps, func() error { return n.Complete(own, k, n.open, "SO_RCVBUF") })
	for _, f := range steps {
		if err := f(); err != nil {
			return nil, errors.Join(err, own.Close())
		}
	}
	return own, nil
}

// place gives a ping its number, by which replies find it.
func (n *bareNode) place(own int) error {
	zone, err := zoneOf(n.family, n.entry.GetIfname())
	if err == nil {
		err = n.bind(own, zone)
	}
	n.placed = err == nil
	return err
}

// fill puts packets of a mark into the queue.
func (n *bareNode) fill(own int, mark uint32) error {
	if err := unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, math.MaxInt32/2); err != nil {
		return fmt.Errorf("set SO_RCVBUFFORCE: %w", err)
	}
	for _, r := range n.queue {
		before, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
		if err != nil {
			return err
		}
		if err := n.send(r, mark); err != nil {
			return fmt.Errorf("send it a packet as if from %v: %w", r.datagram().from, err)
		}
		err = arrived(func() (bool, error) {
			now, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
			return now > before, err
		})
		if err != nil {
			return fmt.Errorf("a packet of %d bytes from %v: %w", len(r.body), r.datagram().from, err)
		}
	}
	return nil
}

// send hands a packet to the kernel: one of IPv4 at a raw socket as a broadcast.
func (n *bareNode) send(r *received, mark uint32) error {
	d := r.datagram()
	p := &socket.Packet{From: d.from, To: d.to, Whole: append(r.header[:len(r.header):len(r.header)], r.body...), Mark: int(mark), Device: r.device}
	if n.family == unix.AF_INET && n.bare == unix.SOCK_RAW {
		p.Device = "lo"
		return p.Send(netip.AddrFrom4([4]byte{255, 255, 255, 255}))
	}
	return d.send(p)
}

// asked says whether the kernel would answer a packet even if it comes by a
// broadcast.
func (s sort) asked(r *received) string {
	const echo, timestamp = 8, 13
	if s.family != unix.AF_INET || s.protocol != unix.IPPROTO_ICMP || r.body[0] != echo && r.body[0] != timestamp {
		return ""
	}
	b, err := fd.ReadFile("/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts")
	if err == nil && len(b) > 0 && b[0] == '1' {
		return ""
	}
	return "the kernel would answer it (net.ipv4.icmp_echo_ignore_broadcasts is 0)"
}
