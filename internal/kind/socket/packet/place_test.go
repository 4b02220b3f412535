package packet

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	packet_sock "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/sockdiag"
)

var ne = binary.NativeEndian

// Packets that have come while a ring was read are taken out again, up to the place where
// the kernel is by then; those from before stay.
func TestForget(t *testing.T) {
	const count, size = 4, 2048
	for _, tt := range []struct {
		name     string
		had      [count]uint32 // when the kernel was at the first place
		from, to uint32
	}{
		{"none", [count]uint32{1, 1, 0, 0}, 2, 2},
		{"one", [count]uint32{1, 1, 0, 0}, 2, 3},
		{"all that were free", [count]uint32{1, 1, 0, 0}, 2, 0},
		{"round", [count]uint32{0, 1, 1, 0}, 3, 1},
		{"a whole round", [count]uint32{}, 2, 2},
	} {
		m := make([]byte, count*size)
		l := &ringLook{version: unix.TPACKET_V2, m: m, rx: frames(&sockdiag.PacketRing{BlockSize: 2 * size, BlockNr: 2, FrameSize: size, FrameNr: count}, 0)}
		for i, s := range tt.had {
			ne.PutUint32(m[i*size:], s)
			m[i*size+8] = 1 // so that it is kept
		}
		for i, n := tt.from, 0; n == 0 && tt.name == "a whole round" || i != tt.to || n > 0 && n < count && tt.from == tt.to; i, n = l.rx.next(i), n+1 {
			ne.PutUint32(m[l.rx.slot(i):], unix.TP_STATUS_USER)
		}
		content := parts(m)
		l.forget(content, tt.from, tt.to)
		for i, s := range tt.had {
			if got := ne.Uint32(within(content, i*size, 4)); got != s {
				t.Errorf("%s: frame %d is %d, and was %d", tt.name, i, got, s)
			}
		}
	}
}

// A block with packets is given away, and one that was begun since is free.
func TestSettle(t *testing.T) {
	const count, size = 3, 4096
	for _, full := range []bool{false, true} {
		m := make([]byte, count*size)
		l := &ringLook{version: unix.TPACKET_V3, m: m, rx: frames(&sockdiag.PacketRing{BlockSize: size, BlockNr: count, FrameSize: 2048, FrameNr: 2 * count}, 0)}
		l.tx.at = len(m)
		p := blockPlace{block: 1, begun: 5, used: 300, last: 200, packets: 2}
		for i, number := range []uint64{4, 5, 3} {
			ne.PutUint64(m[i*size+blockNumber:], number)
		}
		ne.PutUint32(m[blockStatus:], unix.TP_STATUS_USER)
		ne.PutUint32(m[size+200:], 100) // how far the next one is away
		ne.PutUint64(m[size+200+packetTime:], 77)
		if full {
			ne.PutUint32(m[2*size+blockStatus:], unix.TP_STATUS_USER)
		} else { // a packet came to the next block meanwhile
			ne.PutUint64(m[2*size+blockNumber:], 6)
			ne.PutUint32(m[2*size+blockStatus:], unix.TP_STATUS_USER)
		}
		content := parts(m)
		l.settle(content, &p)
		b := within(content, size, size)
		if ne.Uint32(b[blockStatus:]) != unix.TP_STATUS_USER|unix.TP_STATUS_BLK_TMO || ne.Uint32(b[blockPackets:]) != 2 || ne.Uint32(b[blockLen:]) != 300 || ne.Uint64(b[blockTime:]) != 77 || ne.Uint32(b[200:]) != 0 {
			t.Errorf("the block isn't given away: % x", b[:blockHead])
		}
		if next := ne.Uint32(within(content, 2*size+blockStatus, 4)); p.waits != full || p.block != 2 || (p.begun == 6) == full || (next == unix.TP_STATUS_USER) != full {
			t.Errorf("full %v: %+v, status of the next one %d", full, p, next)
		}
	}
}

// Rounds are left out if there are many.
func TestAim(t *testing.T) {
	for _, tt := range []struct{ begun, count, size, want uint64 }{{1, 4, 4096, 1}, {1000, 4, 4096, 1000}, {1000, 4, 1 << 20, 4}, {1001, 4, 1 << 20, 1}, {7, 1, 1 << 30, 1}} {
		if got := aim(tt.begun, tt.count, tt.size); got != tt.want {
			t.Errorf("%d of %d blocks: %d, want %d", tt.begun, tt.count, got, tt.want)
		}
	}
}

// Places that no ring has are refused.
func TestPlaceNonsense(t *testing.T) {
	number := proto.Uint32
	for _, tt := range []struct {
		name    string
		version uint32
		place   *extra.RingPlace
		change  func(r *packet_sock.PacketRing)
		ok      bool
	}{
		{"a frame", unix.TPACKET_V2, &extra.RingPlace{Receive: number(3), Send: number(3)}, nil, true},
		{"blocks", unix.TPACKET_V3, &extra.RingPlace{Blocks: proto.Uint64(1 << 60)}, nil, true},
		{"no such frame", unix.TPACKET_V2, &extra.RingPlace{Receive: number(4)}, nil, false},
		{"no such frame to send", unix.TPACKET_V2, &extra.RingPlace{Send: number(4)}, nil, false},
		{"a frame of blocks", unix.TPACKET_V3, &extra.RingPlace{Receive: number(1)}, nil, false},
		{"blocks of frames", unix.TPACKET_V2, &extra.RingPlace{Blocks: proto.Uint64(3)}, nil, false},
		{"waits for none", unix.TPACKET_V3, &extra.RingPlace{Waits: proto.Bool(true)}, nil, false},
		{"no frames", unix.TPACKET_V2, &extra.RingPlace{Receive: number(1)}, func(r *packet_sock.PacketRing) { r.FrameSize = number(0) }, false},
		{"more frames than there is room for", unix.TPACKET_V2, &extra.RingPlace{Receive: number(9)}, func(r *packet_sock.PacketRing) { r.FrameNr = number(10) }, false},
		{"short frames", unix.TPACKET_V2, &extra.RingPlace{Send: number(1)}, func(r *packet_sock.PacketRing) { r.FrameSize = number(64) }, false},
		{"no blocks", unix.TPACKET_V3, &extra.RingPlace{Blocks: proto.Uint64(3)}, func(r *packet_sock.PacketRing) { r.BlockNr = number(0) }, false},
		{"little room", unix.TPACKET_V3, &extra.RingPlace{Blocks: proto.Uint64(3)}, func(r *packet_sock.PacketRing) { r.SizeofPriv = number(4000) }, false},
	} {
		r := &packet_sock.PacketRing{BlockSize: number(4096), BlockNr: number(2), FrameSize: number(2048), FrameNr: number(4)}
		if tt.change != nil {
			tt.change(r)
		}
		n := &node{entry: &packet_sock.PacketSockEntry{Version: &tt.version, Protocol: number(3), RxRing: r, TxRing: r}}
		if err := n.checkRing(&extra.SocketEntry{Place: tt.place}); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Packets that can't wait at a socket are refused.
func TestQueueNonsense(t *testing.T) {
	number := proto.Uint32
	ring := &packet_sock.PacketRing{BlockSize: number(4096), BlockNr: number(1)}
	frame := append(make([]byte, ethernet), "hello"...)
	for _, tt := range []struct {
		name     string
		typ      uint32
		protocol uint32
		ring     *packet_sock.PacketRing
		w        waiting
		ok       bool
	}{
		{"whole", unix.SOCK_RAW, 3, nil, waiting{header: frame[:ethernet], data: frame, length: len(frame), device: "lo"}, true},
		{"cut", unix.SOCK_RAW, 3, nil, waiting{header: frame[:ethernet], data: frame, length: 1500, device: "lo"}, true},
		{"cooked", unix.SOCK_DGRAM, 3, nil, waiting{header: frame[:ethernet], data: frame[ethernet:], length: 5, device: "lo"}, true},
		{"without a header", unix.SOCK_DGRAM, 3, nil, waiting{data: frame, length: len(frame), device: "lo"}, false},
		{"by no interface", unix.SOCK_DGRAM, 3, nil, waiting{header: frame[:ethernet], data: frame, length: len(frame)}, false},
		{"with another header", unix.SOCK_RAW, 3, nil, waiting{header: []byte("another header"), data: frame, length: len(frame), device: "lo"}, false},
		{"empty", unix.SOCK_DGRAM, 3, nil, waiting{header: frame[:ethernet], device: "lo"}, false},
		{"longer than it is", unix.SOCK_RAW, 3, nil, waiting{header: frame[:ethernet], data: frame, length: 3, device: "lo"}, false},
		{"too long", unix.SOCK_RAW, 3, nil, waiting{header: frame[:ethernet], data: frame, length: 1 << 30, device: "lo"}, false},
		{"SOCK_PACKET", sockPacket, 3, nil, waiting{header: frame[:ethernet], data: frame, length: len(frame), device: "lo"}, false},
		{"no protocol", unix.SOCK_RAW, 0, nil, waiting{header: frame[:ethernet], data: frame, length: len(frame), device: "lo"}, false},
		{"a ring", unix.SOCK_RAW, 3, ring, waiting{header: frame[:ethernet], data: frame, length: len(frame), device: "lo"}, false},
	} {
		n := &node{entry: &packet_sock.PacketSockEntry{Type: &tt.typ, Protocol: &tt.protocol, RxRing: tt.ring}, queue: []*waiting{&tt.w}}
		if err := n.checkQueue(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A part that is the kernel's own is not written to.
func TestKept(t *testing.T) {
	for at := range 8 {
		for size := range 9 - at {
			m := []byte("........")
			span{2, 5}.write(m, at, []byte("xxxxxxxx")[:size])
			for i, c := range m {
				if want := i >= at && i < at+size && (i < 2 || i >= 5); (c == 'x') != want {
					t.Errorf("%d bytes at %d: %s", size, at, m)
				}
			}
		}
	}
}

// No two pumps of a restore use one protocol: a ring that is not yet right would hear the other's.
func TestPumpsApart(t *testing.T) {
	seen := map[uint16]bool{}
	for range protocols {
		p := someProtocol()
		if n := p<<8 | p>>8; seen[p] || n < firstProtocol || n >= firstProtocol+protocols {
			t.Fatalf("protocol %#x is used twice, or not ours", n)
		}
		seen[p] = true
	}
}
