package inet

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
)

// All connections of this package's tests are made as those of a large tree are, half of
// them by rings. What fails so is tried one by one.
func init() {
	fewTogether = 0
	var n atomic.Int32
	linux.QuickCalls = func() bool { return n.Add(1)%2 == 0 }
}

// A socket is in repair mode before anything waits that would reach its peer without.
func TestRepairFirst(t *testing.T) {
	k, rings := New(), linux.Rings{}
	h := rings.TakeRing()
	defer rings.Close()
	defer rings.Give(h)
	s := sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP, connected: true}
	num, err := s.like()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(num)
	at := address{netip.AddrFrom4([4]byte{127, 0, 0, 1}), nobodys}
	n := &node{sort: s, kind: k, at: at, stream: &tcp.Stream{State: tcp.Established, Entry: &tcp_stream.TcpStreamEntry{}}, unseen: &unseen{entry: &extra.SocketEntry{}}}
	if err := n.beginConnection(h, num, at, 0); err != nil {
		t.Fatal(err)
	}
	if on, err := unix.GetsockoptInt(num, unix.IPPROTO_TCP, unix.TCP_REPAIR); err != nil || on != 1 {
		t.Errorf("repair mode is %d, %v", on, err)
	}
}
