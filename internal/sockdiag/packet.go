package sockdiag

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes of an answer about a packet socket, see
// include/uapi/linux/packet_diag.h.
const (
	packetDiagInfo   = 0
	packetDiagMClist = 1
	packetDiagRxRing = 2
	packetDiagTxRing = 3
	packetDiagFanout = 4

	packetShow = 1 | 2 | 4 | 8 // PACKET_SHOW_INFO, _MCLIST, _RING_CFG, _FANOUT

	packetRequestSize = 20 // struct packet_diag_req
	packetMessageSize = 16 // struct packet_diag_msg
	packetInfoSize    = 24 // struct packet_diag_info
	packetMemberSize  = 44 // struct packet_diag_mclist
	packetRingSize    = 28 // struct packet_diag_ring
	packetAddrSize    = 32 // MAX_ADDR_LEN
)

// Packet is one packet socket.
type Packet struct {
	Ino        uint32
	Protocol   uint16
	Index      uint32 // of the interface, 0: all
	CopyThresh uint32
	Members    []PacketMember
	Rx, Tx     *PacketRing // nil: it has none
	Fanout     *uint32     // as PACKET_FANOUT has it; nil: it is of no group, of which that option tells 0 as well
}

// PacketRing is how the memory is divided that a packet socket shares with its
// process, struct packet_diag_ring.
type PacketRing struct {
	BlockSize, BlockNr, FrameSize, FrameNr uint32
	RetireTmo, SizeofPriv, Features        uint32 // of TPACKET_V3
}

// PacketMember is what a packet socket gets besides what is sent to its host.
type PacketMember struct {
	Index uint32 // of the interface
	Count uint32
	Type  uint16 // PACKET_MR_*
	Addr  []byte
}

// EachPacket calls fn with every packet socket of the namespace.
func (c *Conn) EachPacket(fn func(*Packet) error) error {
	b := make([]byte, packetRequestSize)
	b[0] = unix.AF_PACKET
	binary.NativeEndian.PutUint32(b[8:], packetShow)
	return c.each(netlink.Dump, b, func(b []byte) error {
		var p Packet
		if err := ParsePacket(b, &p); err != nil {
			return err
		}
		return fn(&p)
	})
}

// ParsePacket decodes an answer (struct packet_diag_msg and attributes).
func ParsePacket(b []byte, p *Packet) error {
	if len(b) < packetMessageSize {
		return fmt.Errorf("%w: %d bytes for a packet socket", ErrCut, len(b))
	}
	if b[0] != unix.AF_PACKET {
		return fmt.Errorf("sock_diag: answer of family %d to a question about packet sockets", b[0])
	}
	p.Protocol, p.Ino = binary.NativeEndian.Uint16(b[2:]), binary.NativeEndian.Uint32(b[4:])
	return attributes(b[packetMessageSize:], p.attribute)
}

func (p *Packet) attribute(typ uint16, v []byte) error {
	switch typ {
	case packetDiagInfo:
		if len(v) < packetInfoSize {
			return fmt.Errorf("%w: %d bytes about a packet socket", ErrCut, len(v))
		}
		p.Index = binary.NativeEndian.Uint32(v)
		p.CopyThresh = binary.NativeEndian.Uint32(v[12:])
	case packetDiagRxRing:
		return ring(&p.Rx, v)
	case packetDiagTxRing:
		return ring(&p.Tx, v)
	case packetDiagMClist:
		return p.members(v)
	case packetDiagFanout:
		if len(v) < 4 {
			return fmt.Errorf("%w: %d bytes about a fanout group", ErrCut, len(v))
		}
		group := binary.NativeEndian.Uint32(v)
		p.Fanout = &group
	}
	return nil
}

func ring(to **PacketRing, v []byte) error {
	if len(v) < packetRingSize {
		return fmt.Errorf("%w: %d bytes about a ring", ErrCut, len(v))
	}
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(v[4*i:]) }
	*to = &PacketRing{word(0), word(1), word(2), word(3), word(4), word(5), word(6)}
	return nil
}

func (p *Packet) members(v []byte) error {
	ne := binary.NativeEndian
	for ; len(v) >= packetMemberSize; v = v[packetMemberSize:] {
		m := PacketMember{Index: ne.Uint32(v), Count: ne.Uint32(v[4:]), Type: ne.Uint16(v[8:])}
		n := int(ne.Uint16(v[10:]))
		if n > packetAddrSize {
			return fmt.Errorf("sock_diag: an address of %d bytes", n)
		}
		m.Addr = append([]byte{}, v[12:12+n]...) // none is not nil
		p.Members = append(p.Members, m)
	}
	if len(v) > 0 {
		return fmt.Errorf("%w: %d bytes of a membership", ErrCut, len(v))
	}
	return nil
}
