package sockdiag

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// What the kernel says about a packet socket of our own is what was set.
func TestPacketLive(t *testing.T) {
	n, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		testkit.Lacks(t, "packet sockets", err, unix.EAFNOSUPPORT)
	}
	defer unix.Close(n)
	for range 2 {
		if err := unix.SetsockoptPacketMreq(n, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: 1, Type: unix.PACKET_MR_ALLMULTI}); err != nil {
			t.Fatal(err)
		}
	}
	req := &unix.TpacketReq{Block_size: 8192, Block_nr: 3, Frame_size: 2048, Frame_nr: 12}
	if err := unix.SetsockoptTpacketReq(n, unix.SOL_PACKET, unix.PACKET_TX_RING, req); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(n, &st); err != nil {
		t.Fatal(err)
	}
	c, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	seen := false
	err = c.EachPacket(func(p *Packet) error {
		if p.Ino == uint32(st.Ino) {
			seen = len(p.Members) == 1 && p.Members[0].Count == 2 && p.Members[0].Index == 1 && p.Members[0].Type == unix.PACKET_MR_ALLMULTI && p.Rx == nil && p.Tx != nil && *p.Tx == PacketRing{BlockSize: 8192, BlockNr: 3, FrameSize: 2048, FrameNr: 12}
		}
		return nil
	})
	if err != nil || !seen {
		t.Errorf("not as it was made: %v", err)
	}
}
