package netlock

import (
	"net/netip"
	"testing"
)

// Each connection is there once, whichever of its ends is named, and what no packet has is no panic.
func TestSetKeys(t *testing.T) {
	a, b, six := netip.MustParseAddrPort("127.0.0.1:5"), netip.MustParseAddrPort("[::ffff:127.0.0.1]:6"), netip.MustParseAddrPort("[::1]:7")
	flow := func(x, y netip.AddrPort) Flow { return Flow{Local: x, Remote: y} }
	out := setKeys([]Flow{flow(a, b), flow(b, a), flow(six, six), flow(a, b)})
	if len(out[0]) != 1 || len(out[1]) != 1 {
		t.Errorf("%d and %d keys, want 1 of each", len(out[0]), len(out[1]))
	}
	for i, all := range out {
		for _, k := range all {
			if len(k) != int(families[i].keySize()) {
				t.Errorf("a key of %d bytes in set %d", len(k), i)
			}
		}
	}
	setKeys([]Flow{flow(six, a), flow(a, six)})
}
