package packet

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hearing is a socket that gets what comes by the loopback interface, as an injector
// has it come, and tells all that it knows of it.
func hearing(t *testing.T, typ int, ignores int, all ...*waiting) int {
	t.Helper()
	n, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.SetsockoptInt(n, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
	if typ == unix.SOCK_RAW {
		must(t, unix.SetsockoptInt(n, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	}
	in, err := newInjector("lo")
	if err != nil {
		testkit.Lacks(t, "TCX, Linux 6.6", err, unix.EINVAL)
	}
	for _, w := range all {
		if err := in.inject(context.Background(), n, w, uint32(typ)); err != nil {
			t.Fatalf("%+v: %v", w, err)
		}
	}
	must(t, in.leave(n))
	must(t, in.Close())
	must(t, unix.SetsockoptInt(n, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, ignores))
	return n
}

// toldBy is what a socket tells of what waits at it.
func toldBy(t *testing.T, n int) string {
	t.Helper()
	var out []string
	for {
		var b, c [256]byte
		k, m, flags, from, err := unix.Recvmsg(n, b[:], c[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if err != nil {
			return strings.Join(append(out, err.Error()), "\n")
		}
		a := from.(*unix.SockaddrLinklayer)
		out = append(out, fmt.Sprintf("% x, % x, %#x, interface %d, protocol %#x, type %d", b[:min(k, len(b))], c[:m], flags, a.Ifindex, a.Protocol, a.Pkttype))
	}
}

// What waits comes again with all that is told of it: that it was sent, that it was of a
// VLAN, and what is known of its checksum.
func TestToldOfPackets(t *testing.T) {
	testkit.RequireRoot(t)
	memory := kmem.Share(New().KernelNames()...)
	_, err := memory.Reader()
	testkit.KernelMemory(t, err)
	memory.Close()
	header := append(make([]byte, 12), 0x88, 0xb5)
	body := []byte("a packet that has room for a checksum")
	tag := []byte{0x81, 0, 0x60, 7}
	for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM} {
		data := body
		if typ == unix.SOCK_RAW {
			data = append(bytes.Clone(header), body...)
		}
		one := func(change func(w *waiting)) *waiting {
			w := &waiting{header: header, data: data, length: len(data), device: "lo"}
			change(w)
			return w
		}
		all := []*waiting{
			one(func(*waiting) {}),
			one(func(w *waiting) { w.outgoing = true }),
			one(func(w *waiting) { w.vlan = tag }),
			one(func(w *waiting) { w.vlan = []byte{0x88, 0xa8, 0, 0} }),
			one(func(w *waiting) { w.unsummed = 20<<16 | 6 }),
			one(func(w *waiting) { w.unsummed, w.outgoing = 20<<16|3, true }),
			one(func(w *waiting) { w.unsummed, w.vlan = 20<<16|3, tag }),
			one(func(w *waiting) { w.verified = true }),
			one(func(w *waiting) { w.data = w.data[:20] }),
			one(func(w *waiting) { w.data, w.outgoing = w.data[:20], true }),
		}
		for _, ignores := range []int{0, 1} {
			n := hearing(t, typ, ignores, all...)
			want := toldBy(t, n)
			must(t, unix.Close(n))
			if strings.Count(want, "\n") != len(all) || strings.Count(want, "type 4") != 3 {
				t.Fatalf("got %s", want)
			}
			n = optiontest.Again(t, func() kind.File { return New() })(t, hearing(t, typ, ignores, all...))
			if got := toldBy(t, n); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			must(t, unix.Close(n))
		}
	}
}

// What hostile images say of packets is looked at.
func TestPacketNonsense(t *testing.T) {
	header := append(make([]byte, 12), 0x88, 0xb5)
	for want, change := range map[string]func(w *waiting){
		"":            func(*waiting) {},
		"no header":   func(w *waiting) { w.header = header[:13] },
		"long":        func(w *waiting) { w.length = longestPacket + 1 },
		"begin with":  func(w *waiting) { w.data = make([]byte, 40) },
		"its checks":  func(w *waiting) { w.unsummed = 50<<16 | 10 },
		"no place":    func(w *waiting) { w.unsummed = 19 << 16 },
		"of a VLAN":   func(w *waiting) { w.vlan = []byte{0x08, 0, 0, 1} },
		"has no tag":  func(w *waiting) { w.vlan = []byte{0x81} },
		"and was sen": func(w *waiting) { w.vlan, w.outgoing = []byte{0x81, 0, 0, 1}, true },
		"no protocol": func(w *waiting) { w.header, w.stripped = make([]byte, 14), true; copy(w.data, w.header) },
	} {
		w := &waiting{header: header, data: append(bytes.Clone(header), make([]byte, 30)...), length: 44, device: "lo"}
		change(w)
		if why := w.wrong(unix.SOCK_RAW); want == "" && why != "" || !strings.Contains(why, want) {
			t.Errorf("%q: got %q", want, why)
		}
	}
}

// A packet of a VLAN that has no interface comes again at a socket that listens to one
// protocol; and neither the kernel's protocols take it, nor is another VLAN's tag believed.
func TestStrippedPackets(t *testing.T) {
	testkit.RequireRoot(t)
	memory := kmem.Share(New().KernelNames()...)
	_, err := memory.Reader()
	testkit.KernelMemory(t, err)
	memory.Close()
	const protocol = unix.ETH_P_IP
	lo, err := net.InterfaceByName("lo")
	must(t, err)
	out, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(out)
	packet := slices.Concat(make([]byte, 12), []byte{0x81, 0, 0, 7, protocol >> 8, protocol & 0xff}, make([]byte, 40))
	for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM} {
		made := func() int {
			n, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, int(bits.ReverseBytes16(protocol)))
			must(t, err)
			must(t, unix.SetsockoptInt(n, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
			must(t, unix.Sendto(out, packet, 0, &unix.SockaddrLinklayer{Ifindex: lo.Index, Halen: 6}))
			must(t, arrived(context.Background(), func() bool {
				p := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}
				k, _ := linux.PollNow(p)
				return k == 1
			}))
			return n
		}
		n := made()
		want := toldBy(t, n)
		must(t, unix.Close(n))
		if strings.Count(want, "\n") != 1 || !strings.Contains(want, "type 3") {
			t.Fatalf("got %s", want)
		}
		n = optiontest.Again(t, func() kind.File { return New() })(t, made())
		if got := toldBy(t, n); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		must(t, unix.Close(n))
	}
}
