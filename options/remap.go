package options

import (
	"fmt"
	"net/netip"
	"strings"
)

// RemapAddr is an address of the machine that was dumped on, and one of this
// machine that takes its place.
type RemapAddr struct{ Old, New netip.Addr }

// Set reads OLD=NEW, both of IPv4 or both of IPv6.
func (r *RemapAddr) Set(s string) error {
	before, after, _ := strings.Cut(s, "=")
	old, err := netip.ParseAddr(before)
	now, err2 := netip.ParseAddr(after)
	if err != nil || err2 != nil {
		return fmt.Errorf("%q is not OLD=NEW, two addresses of IP", s)
	}
	old, now = old.Unmap(), now.Unmap()
	if old.Is4() != now.Is4() || old.IsUnspecified() || now.IsUnspecified() || old.Zone() != "" || now.Zone() != "" {
		return fmt.Errorf("%q: one can't take the other's place", s)
	}
	*r = RemapAddr{old, now}
	return nil
}
