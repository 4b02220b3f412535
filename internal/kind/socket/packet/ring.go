package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	packet_sock "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/sockdiag"
)

// A ring is memory that the kernel shares with whoever maps the socket, and a
// place in it where the kernel goes on, which a new ring has at its beginning.
// See Documentation/networking/packet_mmap.rst.

// ringNames are the members of the kernel's structures that tell that place.
func ringNames() []string {
	return []string{
		"?packet_sock.rx_ring", "?packet_sock.tx_ring", "?packet_ring_buffer.head", "?packet_ring_buffer.prb_bdqc",
		"?tpacket_kbdq_core.kactive_blk_num",
	}
}

// Where a block of TPACKET_V3 has whose turn it is, how many packets are in it, and
// its number: struct tpacket_block_desc of include/uapi/linux/if_packet.h.
const (
	blockStatus  = 8
	blockPackets = 12
	blockNumber  = 24
	blockHead    = 48 // bytes that it has in all
)

func ringLen(r *sockdiag.PacketRing) int {
	if r == nil {
		return 0
	}
	return int(r.BlockSize) * int(r.BlockNr)
}

// rings saves what is in the rings: of those that are mapped, and of those in
// which something waits for whoever maps them.
func (k *Kind) rings(p *socket.Plain, known *sockdiag.Packet, version uint32) error {
	size := ringLen(known.Rx) + ringLen(known.Tx)
	if size == 0 {
		return nil
	}
	if err := mappedWhole(p, size); err != nil {
		return err
	}
	m, err := unix.Mmap(p.FD.Int(), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map its ring: %w", err)
	}
	defer unix.Munmap(m) //nolint:errcheck // nothing was written
	if err := k.atBegin(p, known, version, m); err != nil {
		return err
	}
	p.More.Ring = parts(m)
	return k.atBegin(p, known, version, m) // nothing came meanwhile
}

// mappedWhole refuses mappings of a part of the rings.
func mappedWhole(p *socket.Plain, size int) error {
	for _, t := range p.Env.Tree.Tasks {
		for i := range t.VMAs {
			v := &t.VMAs[i]
			if v.Inode != p.File.Stat.Ino || v.Name != p.File.Link {
				continue
			}
			if v.Offset != 0 || v.End-v.Start != uint64(size) {
				return p.Refuse("%v, memory %v: a part of its ring was unmapped or protected otherwise, and only the whole can be mapped: map all of it", t, v)
			}
		}
	}
	return nil
}

// atBegin refuses rings at whose beginning the kernel does not go on.
func (k *Kind) atBegin(p *socket.Plain, known *sockdiag.Packet, version uint32, m []byte) error {
	blocks := known.Rx != nil && version == unix.TPACKET_V3
	if untouched(m, blocks) {
		return nil
	}
	r, err := k.mem.Reader()
	if err != nil || p.Sock == nil || !r.Has("packet_sock.rx_ring") || !r.Has("packet_ring_buffer.head") || !r.Has("tpacket_kbdq_core.kactive_blk_num") {
		return p.Refuse("its ring (PACKET_RX_RING, PACKET_TX_RING) was used, and where in it the kernel goes on is only in the kernel's memory, which can't be read (CAP_BPF, BTF): end the capture")
	}
	s, err := r.Struct("packet_sock", p.Sock.At)
	if err != nil {
		return err
	}
	moved := known.Tx != nil && s.In("packet_sock.tx_ring").U32("packet_ring_buffer.head") != 0
	rx := s.In("packet_sock.rx_ring")
	switch {
	case blocks:
		active := rx.In("packet_ring_buffer.prb_bdqc").U16("tpacket_kbdq_core.kactive_blk_num")
		moved = moved || active != 0 || !isZero(m[blockStatus:blockPackets+4])
	case known.Rx != nil:
		moved = moved || rx.U32("packet_ring_buffer.head") != 0
	}
	if moved {
		return p.Refuse("packets have gone through its ring (PACKET_RX_RING, PACKET_TX_RING), and the kernel goes on at the beginning of a new one: end the capture")
	}
	return nil
}

// untouched tells from its memory that a ring was never used: nothing is in it but
// the head of the first block.
func untouched(m []byte, blocks bool) bool {
	if !blocks {
		return isZero(m)
	}
	return isZero(m[blockStatus:blockPackets+4]) && binary.NativeEndian.Uint64(m[blockNumber:]) == 1 && isZero(m[blockHead:])
}

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), partLen)
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// partLen is how many bytes of a ring are looked at at once: zeros aren't kept.
const partLen = 4096

var zeros = make([]byte, partLen)

// parts is what is in a ring but zeros.
func parts(m []byte) (out []*extra.RingPart) {
	for at := 0; at < len(m); at += partLen {
		part := m[at:min(at+partLen, len(m))]
		switch last := len(out) - 1; {
		case isZero(part):
		case last >= 0 && int(out[last].GetOffset())+len(out[last].Content) == at:
			out[last].Content = append(out[last].Content, part...)
		default:
			out = append(out, &extra.RingPart{Offset: proto.Uint64(uint64(at)), Content: bytes.Clone(part)})
		}
	}
	return out
}

// inRing tells how large the memory of an entry's rings is.
func inRing(in *packet_sock.PacketSockEntry) (size uint64) {
	for _, r := range []*packet_sock.PacketRing{in.RxRing, in.TxRing} {
		size += uint64(r.GetBlockSize()) * uint64(r.GetBlockNr())
	}
	return size
}

// checkRing refuses contents that no ring of it can have.
func (n *node) checkRing(more *extra.SocketEntry) error {
	size := inRing(n.entry)
	for _, p := range more.GetRing() {
		if at := p.GetOffset(); at > size || uint64(len(p.Content)) > size-at {
			return fmt.Errorf("%d bytes at %d of a ring of %d bytes can't be", len(p.Content), at, size)
		}
	}
	return nil
}

// fillRings writes what was in the rings. No packet comes before the socket is
// bound.
func (n *node) fillRings(own int) error {
	if len(n.More.GetRing()) == 0 {
		return nil
	}
	m, err := unix.Mmap(own, 0, int(inRing(n.entry)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map its ring: %w", err)
	}
	for _, p := range n.More.GetRing() {
		copy(m[p.GetOffset():], p.Content)
	}
	return unix.Munmap(m)
}
