package inet

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/netlock"
)

// portFlow is what is to be dropped while nobody is at the port of a socket of UDP
// or UDP-Lite, with options as value tells. To a group nobody is told anything.
func portFlow(s sort, at address, value func(string) int) (f netlock.Flow, ok bool) {
	if at.port == 0 || at.ip.IsMulticast() {
		return f, false
	}
	f = netlock.Flow{Protocol: uint8(s.protocol), Local: at.addrPort()}
	f.Shared = value("SO_REUSEADDR") != 0 || value("SO_REUSEPORT") != 0
	f.Both = s.family == unix.AF_INET6 && at.ip.IsUnspecified() && !at.ip.Is4In6() && value("IPV6_V6ONLY") == 0
	if s.lite() && f.Shared { // whether others are there can't be found out
		return f, false
	}
	return f, true
}

// leavePort has what comes to the socket's port dropped while it is away.
func (l *look) leavePort() {
	if l.env.Away == nil {
		return
	}
	if f, ok := portFlow(l.sort, l.at, func(name string) int { return int(l.value(name)) }); ok {
		l.env.Away(f)
	}
}
