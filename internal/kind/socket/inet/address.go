package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
)

// address is one end of a socket.
type address struct {
	ip   netip.Addr // invalid: none
	port uint16
}

func (a address) String() string { return netip.AddrPortFrom(a.ip, a.port).String() }

// addrPort is the address as packets have it.
func (a address) addrPort() netip.AddrPort { return netip.AddrPortFrom(a.ip.Unmap(), a.port) }

// set tells whether there is anything to bind or connect to.
func (a address) set() bool { return a.port != 0 || a.ip.IsValid() && !a.ip.IsUnspecified() }

// addresses reads both ends.
func (l *look) addresses() error {
	if known, ok := l.kind.ends[l.file]; ok && l.live() {
		l.at, l.peer = known[0], known[1]
		return nil
	}
	if o := l.loneOf(); o != nil {
		l.at, l.peer, l.heard = o.at, o.peer, o.heard
		return nil
	}
	sa, err := unix.Getsockname(l.fd.Int())
	if err != nil {
		return l.fail(fmt.Errorf("getsockname: %w", err))
	}
	l.at = decode(sa)
	sa, err = unix.Getpeername(l.fd.Int())
	if err == nil {
		l.peer = decode(sa)
	} else if !errors.Is(err, unix.ENOTCONN) {
		return l.fail(fmt.Errorf("getpeername: %w", err))
	}
	if l.tcpLike() && l.tcp.State == tcp.SynSent {
		return l.peerOfConnecting()
	}
	return nil
}

func decode(sa unix.Sockaddr) address {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return address{netip.AddrFrom4(a.Addr), uint16(a.Port)}
	case *unix.SockaddrInet6:
		return address{netip.AddrFrom16(a.Addr), uint16(a.Port)}
	}
	return address{}
}

// sockaddr is the inverse of decode. zone is the index of an interface, 0 if
// the address needs none.
func (a address) sockaddr(family, zone int) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.port), Addr: a.ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.port), Addr: a.ip.As16(), ZoneId: uint32(zone)}
}

// raw is sockaddr as the kernel has it, in room for it.
func (a address) raw(room *[28]byte, family, zone int) []byte {
	if family == unix.AF_INET {
		four := a.ip.As4()
		return linux.SockaddrInet(room, four[:], a.port, 0)
	}
	all := a.ip.As16()
	return linux.SockaddrInet(room, all[:], a.port, uint32(zone))
}

// words is an address as images have it: its bytes, in words of this machine, for
// which there is room.
func (a address) words(family int, room *[4]uint32) []uint32 {
	var raw [16]byte
	out := room[:1:1]
	switch {
	case family == unix.AF_INET6:
		out = room[:]
		if a.ip.IsValid() {
			raw = a.ip.As16()
		}
	case a.ip.Is4() || a.ip.Is4In6():
		four := a.ip.As4()
		copy(raw[:], four[:])
	}
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return out
}

// fromWords is the inverse of words. Old versions of criu write four words for
// every address.
func fromWords(family int, words []uint32, port uint32) (address, error) {
	if port > 1<<16-1 {
		return address{}, fmt.Errorf("port %d can't be", port)
	}
	if len(words) > 4 || len(words) < 1 || family == unix.AF_INET6 && len(words) != 4 {
		return address{}, fmt.Errorf("an address of %d words can't be", len(words))
	}
	var raw [16]byte
	for i, w := range words {
		binary.LittleEndian.PutUint32(raw[4*i:], w)
	}
	if family == unix.AF_INET {
		return address{netip.AddrFrom4([4]byte(raw[:4])), uint16(port)}, nil
	}
	return address{netip.AddrFrom16(raw), uint16(port)}, nil
}

// loopbackIP and anyIP are the addresses of this machine, and of none, of a family.
func loopbackIP(family int) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

func anyIP(family int) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
