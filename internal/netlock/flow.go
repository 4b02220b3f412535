// Package netlock holds back the packets of some flows while their sockets are
// frozen or away, so that no peer hears anything of it, by nftables rules set
// over netlink.
package netlock

import (
	"fmt"
	"net/netip"
)

// Flow is what goes to and fro between one local address and port and one
// remote one. Addresses of IPv4 in the form of IPv6 are those of IPv4.
type Flow struct {
	Protocol      uint8 // IPPROTO_TCP
	Local, Remote netip.AddrPort
}

// String names the flow as messages do.
func (f Flow) String() string { return fmt.Sprintf("%v-%v", f.Local, f.Remote) }

// canonical is the flow as packets of it look.
func (f Flow) canonical() Flow {
	plain := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	f.Local, f.Remote = plain(f.Local), plain(f.Remote)
	return f
}
