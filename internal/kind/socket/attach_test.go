package socket

import (
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is bound to an interface that is gone is afterwards, too, unless another has its number.
func TestInterfaceGone(t *testing.T) {
	a, b := newPair(t)
	const gone = 1 << 30
	if err := unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, gone); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t)
	s, err := k.Save(a, make([]Value, len(k.Table)), true)
	if err != nil {
		t.Fatal(err)
	}
	if n, is := Gone(s.Entry.GetSoBoundDev()); !is || n != gone {
		t.Errorf("bound to %q", s.Entry.GetSoBoundDev())
	}
	if err := AttachDevice(b, s.Entry); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.GetsockoptInt(b, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); n != gone || err != nil {
		t.Errorf("bound to %d, %v", n, err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := bindToGone(b, lo.Index); err == nil || !strings.Contains(err.Error(), "has that number") {
		t.Errorf("of one that is there: %v", err)
	}
	for _, name := range []string{"", "lo", "/", "/x", "/0", "/-1", "/2147483648", "/1/2"} {
		if n, is := Gone(name); is {
			t.Errorf("%q is %d", name, n)
		}
	}
}
