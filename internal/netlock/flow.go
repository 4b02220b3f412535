// Package netlock holds back the packets of some flows while their sockets are
// frozen or away, so that no peer hears anything of it, by nftables rules set
// over netlink.
package netlock

import (
	"fmt"
	"net/netip"
)

// Flow is what goes to and fro between one local address and port and one
// remote one. Addresses of IPv4 in the form of IPv6 are those of IPv4. Without a
// remote one it is all that comes to a local port of UDP, where nobody is.
type Flow struct {
	Protocol      uint8 // IPPROTO_*
	Local, Remote netip.AddrPort
	Both          bool // of a port at all addresses of IPv6: at those of IPv4, too
	Shared        bool // others may have this port, too (SO_REUSEADDR, SO_REUSEPORT)
}

// String names the flow as messages do.
func (f Flow) String() string {
	if f.toPort() {
		return fmt.Sprintf("what comes to %v", f.Local)
	}
	return fmt.Sprintf("%v-%v", f.Local, f.Remote)
}

// canonical is the flow as packets of it look.
func (f Flow) canonical() Flow {
	plain := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	f.Local = plain(f.Local)
	if f.Remote.IsValid() {
		f.Remote = plain(f.Remote)
	}
	return f
}
