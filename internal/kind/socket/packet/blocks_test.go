package packet

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	packet_sock "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/testkit"
)

// blockRing is a socket with a ring of blocks that are given away after some milliseconds.
func blockRing(t *testing.T, after uint32) (n *node, own int) {
	t.Helper()
	testkit.RequireRoot(t)
	number := proto.Uint32
	n = &node{entry: &packet_sock.PacketSockEntry{Version: number(unix.TPACKET_V3), RxRing: &packet_sock.PacketRing{
		BlockSize: number(4096), BlockNr: number(4), FrameSize: number(2048), FrameNr: number(8), RetireTmo: number(after),
	}}}
	n.More = &extra.SocketEntry{Place: &extra.RingPlace{Blocks: proto.Uint64(3)}}
	own, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(own) })
	if err := errors.Join(unix.SetsockoptInt(own, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3), n.rings(own)); err != nil {
		t.Fatal(err)
	}
	return n, own
}

func mapRing(t *testing.T, n *node, own int) []byte {
	t.Helper()
	m, err := unix.Mmap(own, 0, int(inRing(n.entry)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// pumped has blocks begun in a ring.
func pumped(t *testing.T, n *node, own int) *blockPump {
	t.Helper()
	p, err := newPump(own, mapRing(t, n, own))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := unix.Bind(own, p.address()); err != nil {
		t.Fatal(err)
	}
	b := newBlockPump(p, n.entry.RxRing)
	if err := b.begin(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	return b
}

// A packet that was to fill the block before has come to the last one: nothing would fit
// behind it, so the ring is made once more.
func TestBlockFilled(t *testing.T) {
	n, own := blockRing(t, 60000)
	b := pumped(t, n, own)
	if err := b.send(make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.empty(t.Context()); !errors.Is(err, errGiven) {
		t.Errorf("got %v", err)
	}
	if err := unix.Munmap(b.m); err != nil {
		t.Fatal(err)
	}
}

// A block whose time is over before its packets are taken out begins no other one, so that
// all numbers are right, and is noticed: the ring is made once more.
func TestBlockGivenInTime(t *testing.T) {
	n, own := blockRing(t, 1)
	b := pumped(t, n, own)
	if err := arrived(t.Context(), b.given); err != nil {
		t.Fatal(err)
	}
	if ne.Uint64(b.head(3)[blockNumber:]) == 4 {
		t.Error("the next block was begun, too")
	}
	if _, err := b.empty(t.Context()); !errors.Is(err, errGiven) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(unix.Munmap(b.m), n.dropRings(own)); err != nil {
		t.Fatal(err)
	}
	n.entry.RxRing.RetireTmo = proto.Uint32(60000)
	if err := errors.Join(n.rings(own), n.refill(t.Context(), own)); err != nil {
		t.Fatal(err)
	}
	m := mapRing(t, n, own)
	defer unix.Munmap(m) //nolint:errcheck // nothing was written
	head := m[2*4096:]
	if got := ne.Uint64(head[blockNumber:]); got != 3 || ne.Uint32(head[blockStatus:]) != unix.TP_STATUS_KERNEL || ne.Uint32(head[blockPackets:]) != 0 {
		t.Errorf("number %d: % x", got, head[:blockHead])
	}
}
