package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockdiag"
)

// Where the kernel goes on in a ring is only in its own memory. Packets come while
// that and the ring are read; what has come since then is taken out again, so that
// both are of one moment.

// ringNames are the members of the kernel's structures that tell that place.
func ringNames() []string {
	names := []string{"?packet_sock.rx_ring", "?packet_sock.tx_ring", "?packet_ring_buffer.head", "?packet_ring_buffer.rx_owner_map", "?packet_ring_buffer.prb_bdqc"}
	for _, member := range []string{"kactive_blk_num", "knxt_seq_num", "reset_pending_on_curr_blk", "pkblk_start", "nxt_offset", "prev", "blk_fill_in_prog_lock"} {
		names = append(names, "?tpacket_kbdq_core."+member)
	}
	return names
}

// tells tells whether the kernel has all of them.
func tells(r *kmem.Reader) bool {
	return !slices.ContainsFunc(ringNames(), func(name string) bool { return !r.Has(name[1:]) })
}

// layout is how the memory of a ring is divided into frames.
type layout struct {
	at, frame, each, block, count int // where it is; sizes; frames in a block; frames in all
}

// frames is how a ring at a place in the mapping is divided.
func frames(r *sockdiag.PacketRing, at int) layout {
	if r == nil || r.FrameSize == 0 {
		return layout{at: at}
	}
	return layout{at: at, frame: int(r.FrameSize), each: int(r.BlockSize / r.FrameSize), block: int(r.BlockSize), count: int(r.FrameNr)}
}

// slot is where a frame is in the mapping.
func (l *layout) slot(i uint32) int {
	return l.at + int(i)/l.each*l.block + int(i)%l.each*l.frame
}

// next is the number of the frame behind one.
func (l *layout) next(i uint32) uint32 {
	if int(i)+1 >= l.count {
		return 0
	}
	return i + 1
}

// place is where the kernel goes on.
type place struct {
	rx, tx uint32
	blocks blockPlace
	busy   bool // a packet is just being written
}

// ringLook is rings while they are looked at.
type ringLook struct {
	*socket.Plain
	known   *sockdiag.Packet
	version uint32
	reserve uint32 // PACKET_RESERVE
	m       []byte // both
	rx, tx  layout
}

// blocks tells whether packets come to blocks.
func (l *ringLook) blocks() bool { return l.version == unix.TPACKET_V3 && l.rx.count > 0 }

// looks is how often a ring is looked at in which something changes meanwhile.
const looks = 100

// save saves what is in the rings, and where the kernel goes on.
func (l *ringLook) save(mem *kmem.Shared) error {
	r, err := mem.Reader()
	if err != nil || l.Sock == nil || !tells(r) {
		if !untouched(l.m, l.blocks()) {
			return l.Refuse("its ring (PACKET_RX_RING, PACKET_TX_RING) was used, and where in it the kernel goes on is only in the kernel's memory, which can't be read (CAP_BPF, BTF): end the capture")
		}
		l.More.Ring = parts(l.m)
		return nil
	}
	for range looks {
		if done, err := l.try(r); done || err != nil {
			return err
		}
	}
	return l.Refuse("so many packets go through its ring (PACKET_RX_RING, PACKET_TX_RING) that it doesn't stand still for a moment: try again later")
}

// try is one look. It tells whether all that it saw is of one moment.
func (l *ringLook) try(r *kmem.Reader) (bool, error) {
	before, err := l.place(r)
	if err != nil || before.busy {
		return false, err
	}
	full := l.rx.count > 0 && !l.blocks() && l.status(&l.rx, before.rx) != unix.TP_STATUS_KERNEL
	if same, err := l.place(r); err != nil || same != before {
		return false, err
	}
	content := parts(l.m)
	after, err := l.place(r)
	if err != nil {
		return false, err
	}
	switch {
	case l.blocks():
		l.settle(content, &before.blocks)
	case l.rx.count > 0 && !full:
		l.forget(content, before.rx, after.rx)
	}
	l.More.Ring = content
	return true, l.keep(before)
}

// place reads where the kernel is.
func (l *ringLook) place(r *kmem.Reader) (p place, err error) {
	s, err := r.Struct("packet_sock", l.Sock.At)
	if err != nil {
		return p, err
	}
	p.tx = s.In("packet_sock.tx_ring").U32("packet_ring_buffer.head")
	for i := range uint32(l.tx.count) {
		p.busy = p.busy || l.status(&l.tx, i)&unix.TP_STATUS_SENDING != 0
	}
	rx := s.In("packet_sock.rx_ring")
	switch {
	case l.rx.count == 0:
		return p, nil
	case l.blocks():
		p.blocks = l.blockPlace(rx.In("packet_ring_buffer.prb_bdqc"))
		p.busy = p.busy || p.blocks.busy
		return p, nil
	}
	p.rx = rx.U32("packet_ring_buffer.head")
	owned := make([]byte, (l.rx.count+63)/64*8) // a bit for each frame that is being written
	if err := r.ReadAt(owned, rx.Pointer("packet_ring_buffer.rx_owner_map")); err != nil {
		return p, err
	}
	p.busy = p.busy || !isZero(owned)
	return p, nil
}

// status is whose turn it is with a frame: tp_status of struct tpacket_hdr,
// tpacket2_hdr or tpacket3_hdr in include/uapi/linux/if_packet.h.
func (l *ringLook) status(of *layout, i uint32) uint32 {
	return binary.NativeEndian.Uint32(l.m[of.slot(i)+statusAt(l.version):])
}

func statusAt(version uint32) int {
	if version == unix.TPACKET_V3 {
		return 20
	}
	return 0
}

// forget takes packets out of the copy of a ring that have come since the kernel was
// at one place, up to another one: all frames between were free.
func (l *ringLook) forget(content []*extra.RingPart, from, to uint32) {
	at := func(i uint32) []byte { return within(content, l.rx.slot(i), 4) }
	if b := at(from); from == to && (b == nil || binary.NativeEndian.Uint32(b) == unix.TP_STATUS_KERNEL) {
		return
	}
	for i := from; ; {
		clear(at(i))
		if i = l.rx.next(i); i == to {
			return
		}
	}
}

// within is n bytes at a place of a ring, nil where it is zero.
func within(content []*extra.RingPart, at, n int) []byte {
	for _, p := range content {
		if from := at - int(p.GetOffset()); from >= 0 && from+n <= len(p.Content) {
			return p.Content[from : from+n]
		}
	}
	return nil
}

// untouched tells from its memory that a ring was never used: nothing is in it but
// the head of the first block.
func untouched(m []byte, blocks bool) bool {
	if !blocks {
		return isZero(m)
	}
	return isZero(m[blockStatus:blockFirst]) && binary.NativeEndian.Uint64(m[blockNumber:]) == 1 && isZero(m[blockHead:])
}

// keep writes a place down, if it is not the beginning.
func (l *ringLook) keep(p place) error {
	first := !l.blocks() || p.blocks.begun == 1 && !p.blocks.waits
	if p.rx == 0 && p.tx == 0 && first {
		return nil
	}
	if why := l.unmovable(p); why != "" {
		return l.Refuse("packets have gone through its ring (PACKET_RX_RING, PACKET_TX_RING), which can't be had in a new one: %s; end the capture", why)
	}
	if err := reachable(); err != nil {
		return l.Refuse("packets have gone through its ring (PACKET_RX_RING, PACKET_TX_RING), and %v, by which others would have to: bring it up (ip link set lo up), or end the capture", err)
	}
	l.More.Place = &extra.RingPlace{}
	if p.rx != 0 {
		l.More.Place.Receive = proto.Uint32(p.rx)
	}
	if p.tx != 0 {
		l.More.Place.Send = proto.Uint32(p.tx)
	}
	if !first {
		l.More.Place.Blocks = proto.Uint64(p.blocks.begun)
	}
	if p.blocks.waits {
		l.More.Place.Waits = proto.Bool(true)
	}
	return nil
}

// unmovable says why the kernel can't be moved on to where it is; "" if it can.
func (l *ringLook) unmovable(p place) string {
	rx := l.known.Rx
	switch {
	case p.rx > mostFrames || p.tx > mostFrames:
		return fmt.Sprintf("it has more than %d frames", mostFrames)
	case p.tx != 0 && l.tx.frame < leastFrame:
		return fmt.Sprintf("its frames are shorter than %d bytes", leastFrame)
	case p.blocks.begun > 1 && uint64(rx.BlockSize) < blockHead+uint64(rx.SizeofPriv)+uint64(l.reserve)+leastRoom:
		return fmt.Sprintf("its blocks have room for less than %d bytes", leastRoom)
	}
	return ""
}

// reachable tells why nothing can be sent over the loopback interface.
func reachable() error {
	lo, err := net.InterfaceByName("lo")
	if err == nil && lo.Flags&net.FlagUp == 0 {
		err = errors.New("it is down")
	}
	if err != nil {
		return fmt.Errorf("the loopback interface can't be used (%w)", err)
	}
	return nil
}

// mostFrames is how many frames the kernel is moved on by, some 10 µs each.
const mostFrames = 1 << 20
