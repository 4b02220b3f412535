package inet

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
)

// datagramNames are the members of structures that are read of UDP sockets.
func datagramNames() []string {
	return []string{
		"udp_sock", "udp_sock.reader_queue", "udp_sock.pending", "sock.sk_err", "sock.sk_shutdown", "sock.sk_error_queue", "sock.sk_write_queue",
		"sk_buff.network_header", "sk_buff.transport_header", "skb_shared_info.gso_size",
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
		if err := single(m, buf); err != nil {
			return err
		}
		d, err := readHeader(m, buf)
		if err != nil {
			return err
		}
		if d.from.Is6() && (d.from.IsLinkLocalUnicast() || d.to.IsLinkLocalUnicast()) {
			return fmt.Errorf("%w: a datagram from %v, which an interface belongs to, is among it", errInbox, d.from)
		}
		var head [udpHeader]byte
		if err := m.ReadAt(head[:], header(buf, "sk_buff.transport_header")); err != nil {
			return err
		}
		d.body = append(head[:], buf.Data...)
		// A filter (SO_ATTACH_FILTER) may have cut it.
		binary.BigEndian.PutUint16(d.body[4:], uint16(len(d.body)))
		b.waiting = append(b.waiting, d)
		return nil
	})
}

// single makes sure that a buffer is one datagram.
func single(m *kmem.Reader, buf *kmem.Buffer) error {
	info, err := m.Struct("skb_shared_info", buf.Pointer("sk_buff.head")+kmem.Addr(buf.U32("sk_buff.end")))
	if err == nil && info.U16("skb_shared_info.gso_size") != 0 {
		err = fmt.Errorf("%w: the kernel has put several datagrams together (UDP_GRO)", errInbox)
	}
	return err
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
	class := uint8(binary.BigEndian.Uint16(h[:]) >> 4)
	return &datagram{from: netip.AddrFrom16([16]byte(h[8:])), to: netip.AddrFrom16([16]byte(h[24:])), hops: h[7], class: class}, nil
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
