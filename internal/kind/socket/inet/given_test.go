package inet

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
)

// The limit of its window is set again of a connection that would have another one, or of
// which that isn't known, and of no other.
func TestGivenClamp(t *testing.T) {
	k, rings := New(), linux.Rings{}
	defer rings.Close()
	h := rings.Take()
	defer rings.Give(h)
	s := sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP, connected: true}
	kernel, err := k.kernel(s)
	if err != nil {
		t.Fatal(err)
	}
	home := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	clampOf := func(num int) int {
		v, err := unix.GetsockoptInt(num, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	usual := clampOf(madeAnew(t))
	options := func(clamp int) []socket.Value {
		out := slices.Clone(kernel.Fresh)
		kernel.Know(out, "TCP_WINDOW_CLAMP", socket.Uint(uint32(clamp)))
		return out
	}
	// restored is a connection that has a limit before it gets its options.
	restored := func(values []socket.Value, peer netip.Addr, before int) int {
		t.Helper()
		num := madeAnew(t)
		if err := unix.SetsockoptInt(num, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, before); err != nil {
			t.Fatal(err)
		}
		n := &node{sort: s, kind: k, at: address{home, 1}, peer: address{peer, 2}, unseen: &unseen{}, load: k.loader(s),
			stream: &tcp.Stream{State: tcp.Established, Entry: &tcp_stream.TcpStreamEntry{}}}
		n.opts = &socket.Saved{Values: values}
		if err := n.setConnected(h, num, kernel); err != nil {
			t.Fatal(err)
		}
		if err := h.Run(); err != nil {
			t.Fatal(err)
		}
		return clampOf(num)
	}
	same, other := options(usual), options(20000)
	for _, tt := range []struct {
		what         string
		values       []socket.Value
		before, want int
	}{
		{"the first that has it", same, usual, usual},
		{"the next, which nobody looks at", same, 9000, 9000},
		{"the first of another", other, usual, 20000},
		{"its next", other, usual, 20000},
		{"the first of what looks alike", options(usual), 9000, usual},
	} {
		if got := restored(tt.values, home, tt.before); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.what, got, tt.want)
		}
	}
	for i := range byte(2 * fewGiven) {
		if got := restored(same, netip.AddrFrom4([4]byte{127, 0, 1, i}), 9000); got != usual {
			t.Errorf("peer %d: %d, want %d", i, got, usual)
		}
	}
	if n := len(*k.given.Load()); n > fewGiven {
		t.Errorf("%d were asked", n)
	}
}

// madeAnew returns a connection to a listener of its own.
func madeAnew(t *testing.T) int {
	t.Helper()
	var nums [2]int
	for i := range nums {
		n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(n) })
		nums[i] = n
	}
	if err := unix.Bind(nums[0], &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(nums[0], 1); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(nums[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(nums[1], at); err != nil {
		t.Fatal(err)
	}
	return nums[1]
}
