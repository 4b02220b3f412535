package tcp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
)

// Flags of a segment, RFC 9293.
const (
	flagFin = 0x01
	flagSyn = 0x02
	flagRst = 0x04
	flagPsh = 0x08
	flagAck = 0x10
	flagUrg = 0x20
)

// segment is a TCP segment from the remote to the local end.
type segment struct {
	Path
	flags    uint8
	seq, ack uint32
	window   uint16
	options  []byte // a multiple of 4
	data     []byte
	bound    bool   // the socket is to hear it on its interface
	came     *Came  // what else it is to tell; nil: nothing
	urgent   uint16 // how many bytes of it come before what isn't urgent
}

// headerSize is that of TCP. hops is how far a segment may go: as far as it can, for
// sockets that ask for that (IP_MINTTL, IPV6_MINHOPCOUNT).
const (
	headerSize = 20
	hops       = 255
)

// send hands the segment to the kernel, past the network lock.
func (s *segment) send() error {
	p := s.packet()
	return p.Send(p.To)
}

// packet is the segment with the header of IP before it.
func (s *segment) packet() *socket.Packet {
	be := binary.BigEndian
	h := make([]byte, headerSize, headerSize+len(s.options)+len(s.data))
	be.PutUint16(h[0:], s.Remote.Port())
	be.PutUint16(h[2:], s.Local.Port())
	be.PutUint32(h[4:], s.seq)
	be.PutUint32(h[8:], s.ack)
	h[12], h[13] = byte(headerSize+len(s.options))/4<<4, s.flags
	be.PutUint16(h[14:], s.window)
	be.PutUint16(h[18:], s.urgent)
	p := &socket.Packet{From: s.Remote.Addr(), To: s.Local.Addr(), Protocol: unix.IPPROTO_TCP, Hops: hops}
	if s.came != nil && s.came.Told() {
		p.Hops, p.Class, p.Label = uint8(s.came.Hops), uint8(s.came.Flow>>labelBits), s.came.Flow&(1<<labelBits-1)
	}
	if p.To.IsLinkLocalUnicast() || s.bound {
		p.Device = s.Device
	}
	p.Body = append(append(h, s.options...), s.data...)
	p.Sum(16)
	return p
}
