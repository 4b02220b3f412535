package test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// TestUDPLite: what a UDP-Lite socket has in its queues comes back, and what its
// checksums cover.
func TestUDPLite(t *testing.T) {
	e := glisOnly(t)
	switch n, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDPLITE); {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		t.Skip("no UDP-Lite, which kernels after Linux 7.0 don't have")
	case err != nil:
		t.Fatal(err)
	default:
		unix.Close(n)
	}
	testkit.RoundTrip(t, testkit.Engines{Saver: e, Restorer: e}, target{name: "udp", args: []string{"lite"}, generations: 3}.program(t))
}
