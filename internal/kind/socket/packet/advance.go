package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	packet_sock "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockdiag"
)

// The kernel goes on at the beginning of a new ring. It gets to where it was by
// packets that go through: of a protocol that nobody else listens to, over the
// loopback interface, before the socket is bound to what it is to hear.

// pump sends such packets.
type pump struct {
	own, out int
	protocol uint16 // in network order
	lo       int    // number of the loopback interface
	longest  int    // of a packet that it takes, with its header
	m        []byte // the rings
	sent     uint32 // packets
	came     uint32 // of them, as far as was asked
}

// Protocols that pumps use are those of these, none of which is assigned to anybody, from a random one
// on, so that two restores don't meet, and each another one: a ring stays bound to that of its
// pump until it is right, and would hear another's packets.
const (
	firstProtocol = 0xf000
	protocols     = 0xe00
)

var (
	randomPump = rand.Uint32N(protocols)
	pumps      atomic.Uint32 // how many there were
)

// someProtocol is one of these, in network order.
func someProtocol() uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, firstProtocol+uint16((randomPump+pumps.Add(1))%protocols)))
}

// newPump makes a pump for the rings of a socket.
func newPump(own int, m []byte) (*pump, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find the loopback interface: %w", err)
	}
	p := &pump{own: own, lo: lo.Index, longest: lo.MTU + ethernet, m: m}
	p.protocol = someProtocol()
	if p.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	// Who listens to all that is sent doesn't get these.
	if err := unix.SetsockoptInt(p.out, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return nil, errors.Join(fmt.Errorf("set PACKET_QDISC_BYPASS: %w", err), unix.Close(p.out))
	}
	return p, nil
}

func (p *pump) address() *unix.SockaddrLinklayer {
	return &unix.SockaddrLinklayer{Protocol: p.protocol, Ifindex: p.lo, Halen: 6}
}

// Close forgets what the kernel has counted of the packets.
func (p *pump) Close() error { return errors.Join(p.count(), unix.Close(p.out)) }

// count asks the kernel how many packets have come, also those for which there was no
// room, and waits until what it is just doing to the ring is done: both are under one lock.
func (p *pump) count() error {
	var b [24]byte // struct tpacket_stats_v3, with room
	if _, err := linux.Getsockopt(p.own, unix.SOL_PACKET, unix.PACKET_STATISTICS, b[:]); err != nil {
		return fmt.Errorf("read PACKET_STATISTICS: %w", err)
	}
	p.came += binary.NativeEndian.Uint32(b[:]) // since it was asked last
	return nil
}

// allCame waits until every packet has come that was sent.
func (p *pump) allCame(ctx context.Context) error {
	var failed error
	err := arrived(ctx, func() bool {
		failed = p.count()
		return failed != nil || p.came >= p.sent
	})
	return errors.Join(err, failed)
}

const (
	ethernet = 14              // length of its header
	shortest = ethernet + 2    // of a packet of the pump
	patience = 2 * time.Second // how long a packet may need to arrive, which takes microseconds
)

// send sends a packet of a length.
func (p *pump) send(b []byte) error {
	binary.NativeEndian.PutUint16(b[ethernet-2:], p.protocol)
	if err := unix.Sendto(p.out, b, 0, p.address()); err != nil {
		return fmt.Errorf("send a packet of %d bytes over the loopback interface: %w", len(b), err)
	}
	p.sent++
	return nil
}

// arrived waits until something has happened to the ring.
func arrived(ctx context.Context, done func() bool) error {
	for end := time.Now().Add(patience); !done(); time.Sleep(10 * time.Microsecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return errors.New("a packet doesn't arrive: does a firewall hold back what comes over the loopback interface?")
		}
	}
	return nil
}

// advance has the kernel go on in the new rings where it did. It returns what part
// of them is the kernel's own from now on.
func (n *node) advance(ctx context.Context, own int, m []byte) (kept span, err error) {
	at := n.More.GetPlace()
	if n.entry.RxRing != nil && n.entry.GetVersion() == unix.TPACKET_V3 && at.GetBlocks() == 0 {
		kept = span{0, blockHead} // of the first block, which is empty: see blockPump.empty
	}
	if at == nil {
		return kept, nil
	}
	p, err := newPump(own, m)
	if err != nil {
		return kept, err
	}
	if at.GetSend() != 0 {
		tx := framesOf(n.entry.GetTxRing(), int(inRing(&packet_sock.PacketSockEntry{RxRing: n.entry.RxRing})))
		err = n.transmit(p, &tx, at.GetSend())
	}
	if err == nil && (at.GetBlocks() != 0 || at.GetReceive() != 0) {
		kept, err = n.receive(ctx, p, at)
	}
	return kept, errors.Join(err, p.Close())
}

// receive has packets come.
func (n *node) receive(ctx context.Context, p *pump, at *extra.RingPlace) (kept span, err error) {
	if err := unix.Bind(p.own, p.address()); err != nil {
		return kept, fmt.Errorf("bind to the loopback interface (is it up?): %w", err)
	}
	if at.GetBlocks() != 0 {
		kept, err = p.blocks(ctx, n.entry.GetRxRing(), at)
	} else {
		rx := framesOf(n.entry.GetRxRing(), 0)
		err = p.frames(ctx, &rx, at.GetReceive())
	}
	if err == nil {
		err = drain(p.own) // packets that didn't fit into a frame, see PACKET_COPY_THRESH
	}
	return kept, err
}

func framesOf(r *packet_sock.PacketRing, at int) layout {
	return frames(&sockdiag.PacketRing{BlockSize: r.GetBlockSize(), BlockNr: r.GetBlockNr(), FrameSize: r.GetFrameSize(), FrameNr: r.GetFrameNr()}, at)
}

// span is a part of the rings, from one place on up to another.
type span struct{ from, to int }

// atOnce is how many packets are sent before the last of them is waited for.
const atOnce = 64

// frames has so many packets come to frames, and leaves these empty.
func (p *pump) frames(ctx context.Context, rx *layout, count uint32) error {
	b := make([]byte, shortest)
	there := uint32(0) // frames that are filled
	came := func(i uint32) bool { return binary.NativeEndian.Uint32(p.m[rx.slot(i):]) != unix.TP_STATUS_KERNEL }
	for i := range count {
		if err := p.send(b); err != nil {
			return err
		}
		if i%atOnce != atOnce-1 && i != count-1 {
			continue
		}
		// Each of them: two CPUs may fill two frames, the later one sooner.
		all := func() bool {
			for there <= i && came(there) {
				there++
			}
			return there > i
		}
		if err := arrived(ctx, all); err != nil {
			return err
		}
	}
	if came(count) {
		return errors.New("a packet of somebody else's came, too: try again")
	}
	for i := range count {
		clear(p.m[rx.slot(i):][:rx.frame])
	}
	return nil
}
