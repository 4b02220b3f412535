package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	packet_sock "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kmem"
)

// Packets of TPACKET_V3 come to blocks, one behind the other. The kernel gives a
// block away when it is full, or when no packet has come for a time, and begins the
// next one, if that was given back.

// Where things are in a block (struct tpacket_block_desc), and in a packet of it
// (struct tpacket3_hdr): include/uapi/linux/if_packet.h.
const (
	blockStatus  = 8
	blockPackets = 12
	blockFirst   = 16 // where the first packet is
	blockLen     = 20 // of what is used of it
	blockNumber  = 24
	blockTime    = 40 // of the last packet: seconds, nanoseconds
	blockHead    = 48 // bytes that it has in all

	packetNext   = 0 // how far the next packet is away, 0: it is the last
	packetTime   = 4
	packetLen    = 16
	packetOffset = 24 // where the packet itself begins, of 2 bytes
	packetHead   = 28
)

// blockPlace is where the kernel goes on among blocks.
type blockPlace struct {
	block      uint64 // number among those that there are
	begun      uint64 // how many blocks it has begun
	waits      bool   // for that block, which is full
	used, last int    // up to where in the block packets are, and where the last one is
	packets    uint32
	busy       bool // a packet is just being written
}

// blockPlace reads it from a struct tpacket_kbdq_core.
func (l *ringLook) blockPlace(s *kmem.Struct) (p blockPlace) {
	start := s.Pointer("tpacket_kbdq_core.pkblk_start")
	p.block, p.begun = uint64(s.U16("tpacket_kbdq_core.kactive_blk_num")), uint64(s.Pointer("tpacket_kbdq_core.knxt_seq_num"))-1
	p.waits = s.U8("tpacket_kbdq_core.reset_pending_on_curr_blk") != 0
	p.used, p.last = int(s.Pointer("tpacket_kbdq_core.nxt_offset")-start), int(s.Pointer("tpacket_kbdq_core.prev")-start)
	count := l.count()
	// Blocks are begun in turn; between the end of one and the beginning of the next
	// this is wrong for a moment.
	should := p.begun + count - 1
	if p.waits {
		should = p.begun
	}
	p.busy = s.U32("tpacket_kbdq_core.blk_fill_in_prog_lock") != 0 || p.block != should%count ||
		p.last < blockHead || p.used < p.last || p.used > l.rx.block || p.used-p.last < packetHead && p.used != p.last
	if !p.busy {
		p.packets = binary.NativeEndian.Uint32(l.m[int(p.block)*l.rx.block+blockPackets:])
		p.busy = !p.waits && p.packets > 0 && p.last == p.used
	}
	return p
}

// settle makes the copy of a ring one of the moment in which the kernel was at a place,
// and has it give a block with packets away, as it does when no more come for a time:
// in a new ring it can't go on in the middle of one.
func (l *ringLook) settle(content []*extra.RingPart, p *blockPlace) {
	ne, size := binary.NativeEndian, l.rx.block
	head := func(i uint64) []byte { return within(content, int(i)*size, blockHead) }
	for i := range l.count() { // those that were begun since then were free
		if b := head(i); b != nil && ne.Uint64(b[blockNumber:]) > p.begun {
			ne.PutUint32(b[blockStatus:], unix.TP_STATUS_KERNEL)
		}
	}
	b, last := head(p.block), int(p.block)*size+p.last
	if p.waits || p.packets == 0 || b == nil {
		return
	}
	ne.PutUint32(b[blockStatus:], unix.TP_STATUS_USER|unix.TP_STATUS_BLK_TMO)
	ne.PutUint32(b[blockPackets:], p.packets)
	ne.PutUint32(b[blockLen:], uint32(p.used))
	copy(b[blockTime:blockHead], l.m[last+packetTime:])
	clear(within(content, last+packetNext, 4))
	p.block = (p.block + 1) % l.count()
	if next := head(p.block); next != nil && ne.Uint32(next[blockStatus:])&unix.TP_STATUS_USER != 0 {
		p.waits = true
		return
	}
	p.begun++
}

// count is how many blocks there are.
func (l *ringLook) count() uint64 { return uint64(l.tx.at / l.rx.block) }

// bytesMoved is how much goes through a ring at most, so that its blocks get the numbers
// they would have had; it takes some 50 ms.
const bytesMoved = 64 << 20

// aim is how many blocks are to be begun in a ring of so many: the number of the last one
// tells which it is, so rounds can be left out.
func aim(begun, count, size uint64) uint64 {
	if begun <= bytesMoved/size {
		return begun
	}
	return (begun-1)%count + 1
}

// blockPump has blocks filled.
type blockPump struct {
	*pump
	size, count uint64
	begun       uint64 // blocks so far
	mac, cut    int    // where a packet begins behind the place of its header; what of it doesn't come
}

func (p *blockPump) head(i uint64) []byte { return p.m[i%p.count*p.size:][:blockHead] }

func (p *blockPump) status(i uint64) uint32 {
	return binary.NativeEndian.Uint32(p.head(i)[blockStatus:])
}

// given tells whether the block that was begun last was given away.
func (p *blockPump) given() bool { return p.status(p.begun-1)&unix.TP_STATUS_USER != 0 }

// free gives a block back to the kernel.
func (p *blockPump) free(i uint64) {
	binary.NativeEndian.PutUint32(p.head(i)[blockStatus:], unix.TP_STATUS_KERNEL)
}

// take has a block be one that was not given back to the kernel.
func (p *blockPump) take(i uint64) {
	binary.NativeEndian.PutUint32(p.head(i)[blockStatus:], unix.TP_STATUS_USER)
}

// used is how much of the block that was begun last is in use.
func (p *blockPump) used() uint32 { return binary.NativeEndian.Uint32(p.head(p.begun - 1)[blockLen:]) }

// went looks whether the next block was begun.
func (p *blockPump) went() bool {
	if binary.NativeEndian.Uint64(p.head(p.begun)[blockNumber:]) != p.begun+1 {
		return false
	}
	p.begun++
	return true
}

// errGiven says that the last block was given away before it was empty, since its time
// was over, or that it was filled since that of the one before was.
var errGiven = errors.New("its blocks are given away faster than they are begun (tp_retire_blk_tov): try again")

// newBlockPump has the kernel begin no block without us, whatever time does to the first.
func newBlockPump(p *pump, in *packet_sock.PacketRing) *blockPump {
	b := &blockPump{pump: p, size: uint64(in.GetBlockSize()), count: uint64(in.GetBlockNr()), begun: 1}
	for i := uint64(1); i < b.count; i++ {
		b.take(i)
	}
	return b
}

// blocks has the kernel begin so many blocks, and wait for the next one if it did. What
// it returns is the kernel's own. It may fail with errGiven: in a new ring it can be tried again.
func (p *pump) blocks(ctx context.Context, in *packet_sock.PacketRing, at *extra.RingPlace) (span, error) {
	b := newBlockPump(p, in)
	if err := b.begin(ctx, aim(at.GetBlocks(), b.count, b.size)); err != nil {
		return span{}, err
	}
	if at.GetWaits() {
		return b.stop(ctx)
	}
	return b.empty(ctx)
}

// begin has blocks filled until so many were begun.
func (p *blockPump) begin(ctx context.Context, want uint64) error {
	if err := p.learn(ctx); err != nil {
		return err
	}
	// A single block is given away, and begun anew when it was given back.
	alone := func() bool { return p.count == 1 && p.given() }
	for p.begun < want {
		p.free(p.begun)
		if err := p.one(ctx, alone); err != nil {
			return err
		}
	}
	return nil
}

// learn finds out by a first packet how much room one takes.
func (p *blockPump) learn(ctx context.Context) error {
	ne := binary.NativeEndian
	if p.mac != 0 {
		return nil
	}
	first := p.m[ne.Uint32(p.head(0)[blockFirst:]):]
	if err := p.send(make([]byte, shortest)); err != nil {
		return err
	}
	here := func() bool { return ne.Uint32(first[packetLen:]) != 0 && ne.Uint16(first[packetOffset:]) != 0 }
	if err := arrived(ctx, here); err != nil {
		return err
	}
	p.mac, p.cut = int(ne.Uint16(first[packetOffset:])), shortest-int(ne.Uint32(first[packetLen:]))
	return nil
}

// least is how much room a short packet takes.
func (p *blockPump) least() int {
	return (p.mac + shortest - p.cut + blockUnit - 1) &^ (blockUnit - 1)
}

// blockUnit is V3_ALIGNMENT of net/packet/af_packet.c.
const blockUnit = 8

// one sends a packet that fills the block but for less than one takes, if it is as long as
// that, or a short one, and waits until it is there.
func (p *blockPump) one(ctx context.Context, done func() bool) error {
	was, length := p.used(), shortest
	if room := int(p.size) - int(was) - blockUnit; room >= p.least() {
		length = max(shortest, min(p.longest, room-p.mac+p.cut))
	}
	if err := p.send(make([]byte, length)); err != nil {
		return err
	}
	return arrived(ctx, func() bool { return p.went() || p.used() != was || done() })
}

// stop has the kernel wait for the next block, which was not given back. What is in
// its head stays until what was there comes.
func (p *blockPump) stop(ctx context.Context) (span, error) {
	for !p.given() {
		if err := p.one(ctx, p.given); err != nil {
			return span{}, err
		}
	}
	if err := p.allCame(ctx); err != nil {
		return span{}, err
	}
	from := int(p.begun % p.count * p.size)
	p.wipe(span{from, from + blockHead})
	return span{}, nil
}

// empty has the block that was begun last hold no packet: the first is to come behind
// what was sent.
func (p *blockPump) empty(ctx context.Context) (span, error) {
	if err := p.allCame(ctx); err != nil {
		return span{}, err
	}
	h := p.head(p.begun - 1)
	// What was to fill the block before has come to this one if that one's time was over:
	// the next packet would not fit behind it, and the block be given away without any.
	if used := p.used() - binary.NativeEndian.Uint32(h[blockFirst:]); int(used) > p.least() {
		return span{}, errGiven
	}
	clear(h[blockPackets:blockFirst])
	copy(h[blockFirst:blockLen], h[blockLen:blockNumber])
	// Who looks at its time may have seen it with packets, and be about to give it away.
	if err := p.pump.count(); err != nil {
		return span{}, err
	}
	if p.given() {
		return span{}, errGiven
	}
	from := int((p.begun - 1) % p.count * p.size)
	kept := span{from, from + blockHead}
	p.wipe(kept)
	return kept, nil
}

// wipe clears all blocks but for a part.
func (p *blockPump) wipe(kept span) {
	clear(p.m[:kept.from])
	clear(p.m[kept.to : p.size*p.count])
}

// leastRoom is how many bytes of packets a block has room for at least that the kernel is
// moved on by.
const leastRoom = 512

// checkBlocks refuses places that a ring of these blocks doesn't have.
func (n *node) checkBlocks(p *extra.RingPlace) error {
	rx := n.entry.GetRxRing()
	switch {
	case n.entry.GetVersion() != unix.TPACKET_V3, p.GetBlocks() == 0, rx.GetBlockNr() == 0:
		return fmt.Errorf("%d blocks begun of a ring of %d, version %d, can't be", p.GetBlocks(), rx.GetBlockNr(), n.entry.GetVersion())
	case uint64(rx.GetBlockSize()) < blockHead+uint64(rx.GetSizeofPriv())+uint64(n.entry.GetReserve())+leastRoom:
		return fmt.Errorf("packets in blocks of %d bytes, with %d for other use, can't be", rx.GetBlockSize(), uint64(rx.GetSizeofPriv())+uint64(n.entry.GetReserve()))
	case n.entry.GetProtocol() == 0:
		return errors.New("packets in the ring of a socket without a protocol can't be")
	}
	return nil
}
