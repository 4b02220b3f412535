package packet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	packet_sock "glis.dev/glis/image/criu/packet-sock"
)

// Of a ring for sending, the kernel goes on behind what it has sent.

// outgoing is where things are in a frame that is to be sent, by version (struct
// tpacket_hdr, tpacket2_hdr, tpacket3_hdr): its length, where the packet begins and what
// is said of that with PACKET_TX_HAS_OFF, for SOCK_RAW and for SOCK_DGRAM.
var outgoing = [...]struct{ length, begins, raw, cooked int }{
	unix.TPACKET_V1: {8, 32, 16, 18},
	unix.TPACKET_V2: {4, 32, 12, 14},
	unix.TPACKET_V3: {16, 48, 24, 26},
}

// leastFrame is how long frames are at least that the kernel is moved on by.
const leastFrame = 128

// transmit has so many packets of a ring sent, which nobody gets, and leaves its frames
// empty.
func (n *node) transmit(p *pump, tx *layout, count uint32) error {
	ne, version := binary.NativeEndian, n.entry.GetVersion()
	is := outgoing[version]
	for i := range count {
		f := p.m[tx.slot(i):][:tx.frame]
		ne.PutUint32(f[is.length:], uint32(n.outgoingLen()))
		ne.PutUint16(f[is.raw:], uint16(is.begins))
		ne.PutUint16(f[is.cooked:], uint16(is.begins))
		ne.PutUint32(f[statusAt(version):], unix.TP_STATUS_SEND_REQUEST)
	}
	// Who listens to all that is sent doesn't get these.
	bypass, _ := n.kind.load.Table.Value(n.Opts.Values, "PACKET_QDISC_BYPASS")
	err := unix.SetsockoptInt(p.own, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err == nil {
		err = unix.Sendto(p.own, nil, 0, p.address()) // it waits until they are sent
	}
	if err == nil {
		err = unix.SetsockoptInt(p.own, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, int(bypass.Lo))
	}
	if err != nil {
		return fmt.Errorf("send %d packets from its ring over the loopback interface: %w", count, err)
	}
	for i := range count {
		f := p.m[tx.slot(i):][:tx.frame]
		if s := ne.Uint32(f[statusAt(version):]); s&(unix.TP_STATUS_SEND_REQUEST|unix.TP_STATUS_SENDING|unix.TP_STATUS_WRONG_FORMAT) != 0 {
			return fmt.Errorf("packet %d of its ring wasn't sent over the loopback interface (status %#x)", i, s)
		}
		clear(f)
	}
	return nil
}

// outgoingLen is the length of a packet that is sent: with a struct
// virtio_net_hdr before it, if it has one, and of SOCK_RAW with its header.
func (n *node) outgoingLen() (size int) {
	size = shortest - ethernet
	if n.entry.GetType() == unix.SOCK_RAW {
		size = shortest
	}
	if v, _ := n.kind.load.Table.Value(n.Opts.Values, "PACKET_VNET_HDR_SZ"); v.Lo != 0 {
		return size + int(v.Lo)
	}
	if n.entry.GetVnetHdr() {
		const header = 10
		size += header
	}
	return size
}

// checkFrames refuses a place among frames that a ring of this form doesn't have.
func (n *node) checkFrames(r *packet_sock.PacketRing, at uint32) error {
	switch {
	case at == 0:
		return nil
	case at >= r.GetFrameNr(), r.GetFrameSize() == 0, r.GetBlockSize() < r.GetFrameSize(), at > mostFrames:
		return fmt.Errorf("frame %d as the next of a ring of %d can't be", at, r.GetFrameNr())
	case uint64(r.GetFrameNr()) > uint64(r.GetBlockNr())*uint64(r.GetBlockSize()/r.GetFrameSize()):
		return fmt.Errorf("%d frames of %d bytes in %d blocks of %d can't be", r.GetFrameNr(), r.GetFrameSize(), r.GetBlockNr(), r.GetBlockSize())
	}
	return nil
}

// checkPlace refuses places that rings of these forms don't have.
func (n *node) checkPlace(rx, tx uint32) error {
	if err := errors.Join(n.checkFrames(n.entry.GetRxRing(), rx), n.checkFrames(n.entry.GetTxRing(), tx)); err != nil {
		return err
	}
	switch {
	case rx != 0 && n.entry.GetVersion() == unix.TPACKET_V3:
		return errors.New("a place among frames where there are blocks can't be")
	case rx != 0 && n.entry.GetProtocol() == 0:
		return errors.New("packets in the ring of a socket without a protocol can't be")
	case tx != 0 && n.entry.GetTxRing().GetFrameSize() < leastFrame:
		return fmt.Errorf("frames of %d bytes are too short for the kernel to be moved on in them", n.entry.GetTxRing().GetFrameSize())
	}
	return nil
}
