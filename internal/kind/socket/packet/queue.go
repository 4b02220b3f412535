package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
)

// What waits at a packet socket comes once more by the interface that it came by, but
// only as far as to who listens to all of it: see injector.

// queueNames are the members of the kernel's structures that tell what waits.
func queueNames() []string {
	return []string{
		"sock.sk_err", "sock.sk_error_queue", "sk_buff.mac_header", "?sk_buff.vlan_proto", "?sk_buff.vlan_tci", "?sk_buff.ip_summed", "?sk_buff.csum_start", "?sk_buff.csum_offset", "skb_shared_info.gso_size",
	}
}

// waiting is a packet that waits.
type waiting struct {
	header []byte // of the link
	data   []byte // what the socket gets: with the header, of SOCK_RAW
	length int    // of that, before a filter cut it
	device string

	outgoing bool
	vlan     []byte // its tag; nil: none
	stripped bool   // the tag was taken off, see nobodys
	unsummed uint32 // where its checksum is to be; 0: it is there
	verified bool
}

// frame is what is sent so that it comes.
func (w *waiting) frame(typ uint32) []byte {
	b := w.data
	if typ == unix.SOCK_RAW {
		b = b[len(w.header):]
	}
	const addresses = 12 // before the tag
	out := slices.Concat(w.header[:addresses], w.vlan, w.header[addresses:], b)
	return append(out, make([]byte, w.length-len(w.data))...)
}

// way is how it comes, see injector.
func (w *waiting) way() (n int) {
	if w.outgoing {
		n |= heard
	}
	if w.verified {
		n |= verified
	}
	if w.stripped {
		n |= passing
	}
	return n
}

// nobodys is the tag of a VLAN that no interface can be of. The kernel takes the tag of
// a VLAN that it has no interface of from a packet before those get it who listen to one
// protocol, and says that it is for another host (PACKET_OTHERHOST).
var nobodys = [4]byte{0x81, 0, 0x0f, 0xff}

// listensTo is what a socket listens to for it to come, in network order.
func (w *waiting) listensTo() uint16 {
	if w.stripped {
		return binary.NativeEndian.Uint16(w.header[12:])
	}
	return all
}

// virtio is a struct virtio_net_hdr (include/uapi/linux/virtio_net.h) that tells of its
// checksum: flags, type of segments, lengths of the header and of segments, start, offset.
func (w *waiting) virtio() []byte {
	b := make([]byte, 10)
	if w.unsummed != 0 {
		const needsSum = 1
		b[0] = needsSum
		binary.NativeEndian.PutUint16(b[6:], uint16(w.unsummed>>16)+uint16(len(w.vlan)))
		binary.NativeEndian.PutUint16(b[8:], uint16(w.unsummed))
	}
	return b
}

// saveQueue writes down what waits.
func (k *Kind) saveQueue(p *socket.Plain, rings bool) error {
	if rings || p.Type == sockPacket {
		return p.Empty()
	}
	var tried string
	return p.Queue(k.mem, func(m *kmem.Reader, b *kmem.Buffer) error {
		w, why, err := look(p, m, b)
		if err == nil && why == "" && tried != w.device { // an interface at which it can't be done?
			why, tried = tryInject(w.device), w.device
		}
		if err != nil {
			return p.Fail(err)
		}
		if why != "" {
			return p.Refuse("a packet is in its queue, and %s, so nobody could send it once more: let the process read it first", why)
		}
		e := &extra.QueuedMessage{Socket: &p.File.ID, Header: w.header, Data: w.data, Interface: &w.device}
		w.put(e)
		return p.Env.Images.Put(extra.Queued, e, nil)
	})
}

// put writes what most packets don't have.
func (w *waiting) put(e *extra.QueuedMessage) {
	if w.length != len(w.data) {
		e.Length = proto.Uint32(uint32(w.length))
	}
	if w.unsummed != 0 {
		e.Unsummed = &w.unsummed
	}
	if w.outgoing {
		e.Outgoing = &w.outgoing
	}
	if w.verified {
		e.Verified = &w.verified
	}
	e.Vlan = w.vlan
}

// Where packet_rcv() of net/packet/af_packet.c notes what recvmsg(2) tells of a packet:
// its length, and a struct sockaddr_ll of which that has the first place.
const (
	noteIndex  = 4
	noteHeader = 8  // ARPHRD_*, 2 bytes
	noteType   = 10 // PACKET_*
	noteLen    = 20
)

// look reads a packet. It says why it can't come once more, "" if it can.
func look(p *socket.Plain, m *kmem.Reader, b *kmem.Buffer) (w *waiting, why string, err error) {
	ne, note := binary.NativeEndian, b.Raw("sk_buff.cb", noteLen)
	w = &waiting{header: make([]byte, ethernet), data: b.Data, length: int(ne.Uint32(note))}
	if kind := ne.Uint16(note[noteHeader:]); kind != unix.ARPHRD_ETHER && kind != unix.ARPHRD_LOOPBACK {
		return w, fmt.Sprintf("it came by an interface of type %d", kind), nil
	}
	i, err := net.InterfaceByIndex(int(ne.Uint32(note[noteIndex:])))
	if err != nil {
		return w, "the interface that it came by is gone", nil //nolint:nilerr // that is what it means
	}
	if err := m.ReadAt(w.header, b.Pointer("sk_buff.head")+kmem.Addr(b.U16("sk_buff.mac_header"))); err != nil {
		return w, "", err
	}
	w.device = i.Name
	switch t := note[noteType]; {
	case t == unix.PACKET_OUTGOING && i.Flags&net.FlagLoopback == 0:
		return w, "this machine has sent it by " + i.Name + " (PACKET_OUTGOING), which would send it once more", nil
	case t == unix.PACKET_OUTGOING:
		w.outgoing = true
	case t == unix.PACKET_OTHERHOST && typeAt(i, w.header) != t && listensToOne(p) && w.named():
		w.vlan = nobodys[:]
	case t != typeAt(i, w.header):
		return w, fmt.Sprintf("it is of type %d (sll_pkttype), which one that comes isn't", t), nil
	}
	return w, unlike(p, m, b, w), nil
}

// listensToOne tells whether a socket listens to one protocol.
func listensToOne(p *socket.Plain) bool {
	sa, err := unix.Getsockname(p.FD.Int())
	at, ok := sa.(*unix.SockaddrLinklayer)
	return err == nil && ok && at.Protocol != all
}

// named tells whether the protocol of a packet is in its header, where else its length is
// (ETH_P_802_3_MIN of include/uapi/linux/if_ether.h).
func (w *waiting) named() bool {
	const least = 0x600
	return binary.BigEndian.Uint16(w.header[12:]) >= least
}

// typeAt is what a packet that comes by an interface is (PACKET_*).
func typeAt(i *net.Interface, header []byte) byte {
	own := make([]byte, 6)
	copy(own, i.HardwareAddr)
	switch to := header[:6]; {
	case string(to) == string(own):
		return unix.PACKET_HOST
	case string(to) == "\xff\xff\xff\xff\xff\xff":
		return unix.PACKET_BROADCAST
	case to[0]&1 != 0:
		return unix.PACKET_MULTICAST
	}
	return unix.PACKET_OTHERHOST
}

// unlike says what of a packet would not be the same.
func unlike(p *socket.Plain, m *kmem.Reader, b *kmem.Buffer, w *waiting) string {
	on := func(level, opt int) bool {
		v, err := unix.GetsockoptInt(p.FD.Int(), level, opt)
		return err == nil && v != 0
	}
	known := w.readSum(m, b)
	if m.Has("sk_buff.vlan_proto") && b.U16("sk_buff.vlan_proto") != 0 {
		w.vlan = append(b.Raw("sk_buff.vlan_proto", 2), binary.BigEndian.AppendUint16(nil, b.U16("sk_buff.vlan_tci"))...)
		if string(w.vlan) == string(nobodys[:]) && listensToOne(p) {
			return "it has the tag of a VLAN that nobody can have"
		}
	}
	switch {
	case !known && (on(unix.SOL_PACKET, unix.PACKET_AUXDATA) || on(unix.SOL_PACKET, unix.PACKET_VNET_HDR)):
		return "what is known of its checksum would be told (PACKET_AUXDATA, PACKET_VNET_HDR)"
	case on(unix.SOL_SOCKET, unix.SO_RCVMARK):
		return "its mark would be told (SO_RCVMARK)"
	}
	return w.wrong(uint32(p.Type))
}

// readSum reads what the kernel knows of the checksum, if that can be brought back.
func (w *waiting) readSum(m *kmem.Reader, b *kmem.Buffer) bool {
	if !m.Has("sk_buff.ip_summed") || !m.Has("sk_buff.csum_start") || !m.Has("sk_buff.csum_offset") {
		return false
	}
	info, err := m.Struct("skb_shared_info", b.Pointer("sk_buff.head")+kmem.Addr(b.U32("sk_buff.end")))
	if err != nil || info.U16("skb_shared_info.gso_size") != 0 { // it is to be cut, too
		return false
	}
	const unnecessary, partial = 1, 3 // CHECKSUM_* of include/linux/skbuff.h
	switch b.Bits("sk_buff.ip_summed") {
	case unnecessary:
		w.verified = true
	case partial:
		start := b.U16("sk_buff.csum_start") - b.U16("sk_buff.mac_header")
		w.unsummed = uint32(start)<<16 | uint32(b.U16("sk_buff.csum_offset"))
		if !w.summable() {
			w.unsummed = 0
			return false
		}
	}
	return true
}

// summable tells whether the checksum is where virtio_net_hdr_to_skb() of
// include/linux/virtio_net.h lets it be.
func (w *waiting) summable() bool {
	const header4 = 20         // the least that a header of IP has
	all := w.length + ethernet // the most that it can be: of SOCK_RAW the header is in it
	start, at := int(w.unsummed>>16), int(w.unsummed&0xffff)
	return start >= header4 && start+at+2 <= all
}

// longestPacket is what the loopback interface takes, with its header.
const longestPacket = 65536 + ethernet

// wrong says why a packet can't wait at a socket of a type; "" if it can.
func (w *waiting) wrong(typ uint32) string {
	most := longestPacket
	if typ != unix.SOCK_RAW {
		most -= ethernet
	}
	switch {
	case len(w.header) != ethernet, w.device == "":
		return "it has no header of Ethernet"
	case w.length < len(w.data) || w.length > most:
		return fmt.Sprintf("it is %d bytes of %d long", len(w.data), w.length)
	case typ == unix.SOCK_RAW && (len(w.data) < ethernet || string(w.data[:ethernet]) != string(w.header)):
		return "it doesn't begin with its header"
	case len(w.data) == 0:
		return "it is empty"
	case w.unsummed != 0 && !w.summable():
		return "its checksum has no place"
	case len(w.vlan) != 0 && (w.outgoing || !isTag(w.vlan)):
		return "it is of a VLAN, and was sent or has no tag"
	case w.stripped && !w.named():
		return "it is of a VLAN, and has no protocol"
	}
	return ""
}

// isTag tells whether bytes are the tag of a VLAN (802.1Q, 802.1ad).
func isTag(b []byte) bool {
	if len(b) != 4 {
		return false
	}
	p := binary.BigEndian.Uint16(b)
	return p == unix.ETH_P_8021Q || p == unix.ETH_P_8021AD
}

// readQueued reads what waits at packet sockets.
func readQueued(src plan.Source) (map[plan.ID][]*waiting, error) {
	all, err := src.Entries(extra.Queued)
	out := map[plan.ID][]*waiting{}
	for _, m := range all {
		e := m.Message.(*extra.QueuedMessage)
		if len(e.GetHeader()) != ethernet { // those of IP are longer
			continue
		}
		w := &waiting{header: e.GetHeader(), data: e.GetData(), device: e.GetInterface(), length: len(e.GetData()),
			outgoing: e.GetOutgoing(), vlan: e.Vlan, unsummed: e.GetUnsummed(), verified: e.GetVerified(),
		}
		if e.Length != nil {
			w.length = int(e.GetLength())
		}
		id := plan.ID(e.GetSocket())
		out[id] = append(out[id], w)
	}
	return out, err
}

// checkQueue refuses packets that can't wait at the socket.
func (n *node) checkQueue() error {
	for _, w := range n.queue {
		w.stripped = string(w.vlan) == string(nobodys[:]) && n.entry.GetProtocol() != uint32(all)
		if why := w.wrong(n.entry.GetType()); why != "" {
			return fmt.Errorf("%s: a packet can't wait at it: %s", extra.Queued.Pattern, why)
		}
	}
	if len(n.queue) > 0 && (n.old() || n.entry.GetProtocol() == 0 || inRing(n.entry) != 0) {
		return errors.New("packets can't wait at a socket of SOCK_PACKET, without a protocol, or with a ring")
	}
	return nil
}

// enqueue has what waited come again, in order.
func (n *node) enqueue(ctx context.Context, own *fd.FD) (err error) {
	if len(n.queue) == 0 {
		return nil
	}
	if err := unix.SetsockoptInt(own.Int(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, math.MaxInt32/2); err != nil {
		return fmt.Errorf("set SO_RCVBUFFORCE: %w", err)
	}
	var at *injector
	defer func() {
		if at != nil {
			err = errors.Join(err, at.Close())
		}
	}()
	for _, w := range n.queue {
		if at == nil || at.device.Name != w.device {
			if at != nil {
				if err := at.Close(); err != nil {
					return err
				}
			}
			if at, err = newInjector(w.device); err != nil {
				return fmt.Errorf("have a packet come by interface %q: %w", w.device, err)
			}
		}
		if err := at.inject(ctx, own.Int(), w, n.entry.GetType()); err != nil {
			return fmt.Errorf("a packet of %d bytes by interface %q: %w", len(w.data), w.device, err)
		}
	}
	return at.leave(own.Int())
}
