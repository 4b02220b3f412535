package packet

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// set sets an interface up or down.
func set(t *testing.T, name string, up bool) {
	t.Helper()
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(n)
	r, err := unix.NewIfreq(name)
	must(t, err)
	if up {
		r.SetUint16(unix.IFF_UP)
	}
	must(t, unix.IoctlIfreq(n, unix.SIOCSIFFLAGS, r))
}

// A socket whose interface is down is told so once, be it before or after; it hears what
// comes when that is up again.
func TestInterfaceDown(t *testing.T) {
	testkit.RequireRoot(t)
	memory := kmem.Share(New().KernelNames()...)
	_, err := memory.Reader()
	testkit.KernelMemory(t, err)
	memory.Close()
	here, there := testkit.Here(), testkit.NewNet(t)
	testkit.Veth(t, here, "glis-a", there, "glis-b")
	index, protocol := here.Index(t, "glis-a"), uint16(0xb588)
	for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM, sockPacket} {
		for _, knows := range []bool{true, false} {
			if typ == sockPacket && !knows { // refused
				continue
			}
			set(t, "glis-a", true)
			n, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, int(protocol))
			must(t, err)
			if typ == sockPacket {
				at := binary.NativeEndian.AppendUint16(nil, unix.AF_PACKET)
				must(t, linux.Bind(n, append(at, "glis-a\x00\x00\x00\x00\x00\x00\x00\x00"...)))
			} else {
				must(t, unix.Bind(n, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index}))
			}
			set(t, "glis-a", false)
			want := []unix.Errno{unix.ENETDOWN, 0}
			if knows {
				failure(t, n)
				want = []unix.Errno{0, 0}
			}
			n = optiontest.Again(t, func() kind.File { return New() })(t, n)
			if got := []unix.Errno{failure(t, n), failure(t, n)}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("type %d: got %v, want %v", typ, got, want)
			}
			set(t, "glis-a", true)
			set(t, "glis-a", false)
			if got := failure(t, n); got != unix.ENETDOWN {
				t.Errorf("type %d: it doesn't belong to the interface: %v", typ, got)
			}
			must(t, unix.Close(n))
		}
	}
}

// failure is what SO_ERROR tells.
func failure(t *testing.T, n int) unix.Errno {
	t.Helper()
	e, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ERROR)
	must(t, err)
	return unix.Errno(e)
}

// A socket whose interface is gone hears nothing, is told so once, and can be bound anew.
func TestInterfaceGone(t *testing.T) {
	testkit.RequireRoot(t)
	memory := kmem.Share(New().KernelNames()...)
	_, err := memory.Reader()
	testkit.KernelMemory(t, err)
	memory.Close()
	protocol := uint16(0xb588)
	for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM} {
		for _, knows := range []bool{true, false} {
			n, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			must(t, bindGone(n, protocol))
			want := []unix.Errno{unix.ENETDOWN, 0}
			if knows {
				failure(t, n)
				want = []unix.Errno{0, 0}
			}
			at, err := unix.Getsockname(n)
			must(t, err)
			n = optiontest.Again(t, func() kind.File { return New() })(t, n)
			if got := []unix.Errno{failure(t, n), failure(t, n)}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("type %d: got %v, want %v", typ, got, want)
			}
			is, err := unix.Getsockname(n)
			must(t, err)
			x, y := at.(*unix.SockaddrLinklayer), is.(*unix.SockaddrLinklayer)
			if x.Ifindex != -1 || x.Ifindex != y.Ifindex || x.Protocol != protocol || x.Protocol != y.Protocol || x.Hatype != y.Hatype || x.Halen != y.Halen {
				t.Errorf("type %d: it is at %+v, was at %+v", typ, y, x)
			}
			must(t, unix.Bind(n, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: 1}))
			must(t, unix.Close(n))
		}
	}
}
