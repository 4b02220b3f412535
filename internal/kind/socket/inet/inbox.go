package inet

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
)

// datagramNames are the members of structures that are read of UDP sockets.
func datagramNames() []string {
	return []string{
		"udp_sock", "udp_sock.reader_queue", "udp_sock.pending", "sock.sk_err", "sock.sk_shutdown", "sock.sk_error_queue", "sock.sk_write_queue",
		"sk_buff.network_header", "sk_buff.transport_header", "skb_shared_info.gso_size", "skb_shared_info.gso_type", "sk_buff.tstamp", "?sk_buff.ip_summed", "?sk_buff.csum_valid",
		"sock_exterr_skb.ee",
	}
}

// Sizes in bytes, and how many buffers a queue may have.
const (
	udpHeader  = 8
	ip4Header  = 20
	ip6Header  = 40
	mostQueued = 1 << 20
)

// readQueue reads datagrams that were received.
func (b *inbox) readQueue(m *kmem.Reader, queue kmem.Addr) error {
	return m.Buffers(queue, mostQueued, func(buf *kmem.Buffer) error {
		size, err := segmentOf(m, buf)
		if err != nil {
			return err
		}
		d, err := readHeader(m, buf)
		if err != nil {
			return err
		}
		var head [udpHeader]byte
		if err := m.ReadAt(head[:], header(buf, "sk_buff.transport_header")); err != nil {
			return err
		}
		extended, err := hasOptions(m, buf)
		if err != nil {
			return err
		}
		b.extended = b.extended || extended
		d.time, d.summed = uint64(buf.Pointer("sk_buff.tstamp")), summed(m, buf)
		b.receive(d, head, buf.Data, size)
		return nil
	})
}

// summed tells whether the checksum of a datagram is computed by the kernel, which
// IP_CHECKSUM tells: it was, or will be when it is read.
func summed(m *kmem.Reader, buf *kmem.Buffer) bool {
	if !m.Has("sk_buff.ip_summed") || !m.Has("sk_buff.csum_valid") {
		return false
	}
	const none, complete = 0, 2 // CHECKSUM_* of include/linux/skbuff.h
	is := buf.Bits("sk_buff.ip_summed")
	return is == complete || is == none && buf.Bits("sk_buff.csum_valid") == 0
}

// receive notes a datagram, or several that the kernel has put together, each of
// size bytes but the last.
func (b *inbox) receive(d *datagram, head [udpHeader]byte, data []byte, size int) {
	for first := true; first || len(data) > 0; first = false {
		n := len(data)
		if size > 0 {
			n = min(n, size)
		}
		one := *d
		one.body = append(head[:len(head):len(head)], data[:n]...)
		// A filter (SO_ATTACH_FILTER) may have cut it.
		binary.BigEndian.PutUint16(one.body[4:], uint16(len(one.body)))
		b.waiting = append(b.waiting, &one)
		data = data[n:]
	}
}

// segmentOf returns how many bytes each datagram has of those that a buffer is
// made of (UDP_GRO), 0 if it is one.
func segmentOf(m *kmem.Reader, buf *kmem.Buffer) (int, error) {
	info, err := m.Struct("skb_shared_info", buf.Pointer("sk_buff.head")+kmem.Addr(buf.U32("sk_buff.end")))
	if err != nil {
		return 0, err
	}
	size, kind := int(info.U16("skb_shared_info.gso_size")), info.U32("skb_shared_info.gso_type")
	const datagrams = 1 << 17 // SKB_GSO_UDP_L4 of include/linux/skbuff.h
	if size != 0 && kind&datagrams == 0 {
		return 0, fmt.Errorf("%w: the kernel has put something together (%#x)", errInbox, kind)
	}
	return size, nil
}

// header is where a header of a buffer is.
func header(buf *kmem.Buffer, which string) kmem.Addr {
	return buf.Pointer("sk_buff.head") + kmem.Addr(buf.U16(which))
}

// readHeader reads the header of IP.
func readHeader(m *kmem.Reader, buf *kmem.Buffer) (*datagram, error) {
	var h [ip6Header]byte
	at := header(buf, "sk_buff.network_header")
	if err := m.ReadAt(h[:ip4Header], at); err != nil {
		return nil, err
	}
	if h[0]>>4 == 4 {
		return &datagram{from: netip.AddrFrom4([4]byte(h[12:])), to: netip.AddrFrom4([4]byte(h[16:])), hops: h[8], class: h[1]}, nil
	}
	if err := m.ReadAt(h[:], at); err != nil || h[0]>>4 != 6 {
		return nil, fmt.Errorf("%w: a packet of IP version %d (%v)", errInbox, h[0]>>4, err)
	}
	flow := binary.BigEndian.Uint32(h[:])
	d := &datagram{from: netip.AddrFrom16([16]byte(h[8:])), to: netip.AddrFrom16([16]byte(h[24:])), hops: h[7], class: uint8(flow >> 20), label: flow & mostLabel}
	return d, d.findDevice(buf)
}

// hasOptions tells whether options of IP, or extension headers, came with a datagram.
func hasOptions(m *kmem.Reader, buf *kmem.Buffer) (bool, error) {
	var h [ip4Header]byte
	if err := m.ReadAt(h[:], header(buf, "sk_buff.network_header")); err != nil {
		return false, err
	}
	if h[0]>>4 == 4 {
		return int(h[0]&0xf)*4 > ip4Header, nil
	}
	return h[6] != unix.IPPROTO_UDP && h[6] != unix.IPPROTO_UDPLITE, nil
}

// local tells whether an interface belongs to one of its addresses.
func (d *datagram) local() bool {
	own := func(a netip.Addr) bool {
		return a.Is6() && (a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast())
	}
	return own(d.from) || own(d.to)
}

// findDevice notes the interface of link-local addresses, with which struct
// inet6_skb_parm of include/linux/ipv6.h begins.
func (d *datagram) findDevice(buf *kmem.Buffer) error {
	if !d.local() {
		return nil
	}
	i, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(buf.Raw("sk_buff.cb", 4))))
	if err != nil {
		return fmt.Errorf("%w: a datagram from %v, whose interface isn't there any more (%v), is among it", errInbox, d.from, err)
	}
	d.device = i.Name
	return nil
}

// readErrors reads the ICMP messages that wait in the error queue.
func (b *inbox) readErrors(m *kmem.Reader, queue kmem.Addr) error {
	return m.Buffers(queue, mostQueued, func(buf *kmem.Buffer) error {
		// struct sock_extended_err: u32 errno, u8 origin, …
		ee := buf.Raw("sk_buff.cb", 48)[m.Off("sock_exterr_skb.ee"):]
		if origin := ee[4]; origin != unix.SO_EE_ORIGIN_ICMP && origin != unix.SO_EE_ORIGIN_ICMP6 {
			return fmt.Errorf("%w: a message of origin %d, which no packet brought, is in the error queue (MSG_ERRQUEUE)", errInbox, origin)
		}
		d, err := readHeader(m, buf)
		if err != nil {
			return err
		}
		// ICMP, what it is about, and all that follows, are in one piece of
		// memory, of which the last part is the buffer's data.
		at := header(buf, "sk_buff.network_header") + ip4Header
		if d.to.Is6() {
			at += ip6Header - ip4Header
		}
		before := buf.Pointer("sk_buff.data") - at
		if before > 1<<12 {
			return fmt.Errorf("%w: an ICMP message with %d bytes of headers", errInbox, before)
		}
		d.body = make([]byte, before)
		if err := m.ReadAt(d.body, at); err != nil {
			return err
		}
		d.body = append(d.body, buf.Data...)
		b.errs = append(b.errs, d)
		return nil
	})
}
