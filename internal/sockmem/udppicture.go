package sockmem

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
)

// UDPPicture is the state of a UDP socket at one time.
type UDPPicture struct {
	Local, Remote netip.AddrPort // as getsockname(2) and getpeername(2) tell them; of one that is connected to no port, or is no longer, the port is 0
	Idle          bool           // nothing is in any of its queues, and nothing waits to be reported
	Locks         uint32         // SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK, and what SO_BUF_LOCK tells
	HopLimit      uint32         // of IPv6, -1 as a number of 16 bits: the route's
	Dst           uint64         // address of the route, 0: it has none
	Family        uint16
	State         uint8 // 1 (TCP_ESTABLISHED) if it is connected, else 7
}

// udpWord is one thing that is looked at.
type udpWord int

const (
	udpSport udpWord = iota
	udpDport
	udpDaddr
	udpRcvSaddr
	udpSaddr
	udpErr
	udpErrors   // how many are in the error queue
	udpReceived // how many are in the queue
	udpReading  // and in the reader's, which those before went to
	udpWritten  // bytes that are on their way, and 1
	udpPending  // not 0: what was given with MSG_MORE waits
	udpShutdown
	udpLocks
	udpHops
	udpState
	udpWords
)

// UDPPlaces is where in a UDP socket's structure these are.
type UDPPlaces struct {
	word   [udpWords]bits
	dst    int
	daddr6 int // of 16 bytes, like the next two
	rcv6   int
	saddr6 int
	family int
	size   [2]int // of memory that is needed, of IPv4 and IPv6
}

// Picture reads memory of a socket into p; false if there is too little of it.
// Memory is copied while packets come: each word is of some moment of the copying,
// and of what packets change (queues, the error) only those that are all 0 are called idle.
func (l *UDPPlaces) Picture(memory []byte, p *UDPPicture) bool {
	if l == nil || len(memory) < l.size[1] {
		return false
	}
	p.Family = binary.NativeEndian.Uint16(memory[l.family:])
	at := func(w udpWord) uint32 { return l.word[w].read(memory) }
	p.Idle = at(udpErr)|at(udpErrors)|at(udpReceived)|at(udpReading)|at(udpPending)|at(udpShutdown) == 0 && at(udpWritten) == 1
	p.State = uint8(at(udpState))
	p.Locks, p.Dst = at(udpLocks), binary.NativeEndian.Uint64(memory[l.dst:])
	var local, remote netip.Addr
	if p.Family == unix.AF_INET {
		local, remote = l.four(memory, udpRcvSaddr, udpSaddr), l.four(memory, udpDaddr, udpDaddr)
	} else {
		p.HopLimit = at(udpHops)
		if local = netip.AddrFrom16([16]byte(memory[l.rcv6:])); local.IsUnspecified() {
			local = netip.AddrFrom16([16]byte(memory[l.saddr6:]))
		}
		remote = netip.AddrFrom16([16]byte(memory[l.daddr6:]))
	}
	p.Local, p.Remote = netip.AddrPortFrom(local, swap(at(udpSport))), netip.AddrPortFrom(remote, swap(at(udpDport)))
	return true
}

// four is an address of IPv4, another one if it is 0.0.0.0.
func (l *UDPPlaces) four(memory []byte, w, other udpWord) netip.Addr {
	v := l.word[w].read(memory)
	if v == 0 {
		v = l.word[other].read(memory)
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

var udpMemberOf = [udpWords]member{
	udpSport: {in: inInet, name: "inet_sport", size: 2}, udpSaddr: {in: inInet, name: "inet_saddr", size: 4},
	udpState: {in: inTCPCommon, name: "skc_state", size: 1},
	udpErr:   {in: inTCPSock, name: "sk_err", size: 4}, udpShutdown: {in: inTCPSock, name: "sk_shutdown", size: 1},
	udpErrors:   {in: inErrors, name: "qlen", size: 4, of: "sk_error_queue"},
	udpReceived: {in: inErrors, name: "qlen", size: 4, of: "sk_receive_queue"},
	udpReading:  {in: inErrors, name: "qlen", size: 4, of: "reader_queue"},
	udpWritten:  {in: inTCPSock, name: "sk_wmem_alloc", size: 4}, udpPending: {in: inUDP, name: "pending", size: 4},
	udpLocks: {in: inTCPSock, name: "sk_userlocks", size: 1}, udpHops: {in: inIP6, name: "hop_limit", size: 2, of: "inet6"},
}

// findUDPPicture returns nil if something isn't where it is known to be.
func findUDPPicture(x *bpf.Types, found []bpf.Type, u *TCP) (*UDPPlaces, error) {
	p := &pictures{types: x, found: found, outer: map[string]int{"inet6": inUDP6, "reader_queue": inUDP}, sound: true, limit: u.Size}
	l := &UDPPlaces{family: u.Family.At, size: [2]int{u.Size4, u.Size}}
	for w, m := range udpMemberOf {
		if m.name != "" {
			l.word[w] = p.place(m)
		}
	}
	l.dst = p.check(x.Member(&found[inTCPSock], "sk_dst_cache"), 8)
	l.daddr6, l.rcv6 = p.check(x.Member(&found[inTCPCommon], "skc_v6_daddr"), 16), p.check(x.Member(&found[inTCPCommon], "skc_v6_rcv_saddr"), 16)
	l.saddr6 = p.check(inet6At(x, found, inUDP6), 0) + p.check(x.Member(&found[inIP6], "saddr"), 16)
	p.check(l.saddr6, 16)
	common, err := x.Fields(&found[inTCPCommon], "skc_daddr", "skc_rcv_saddr", "skc_dport")
	if err != nil {
		return nil, err
	}
	for i, w := range []udpWord{udpDaddr, udpRcvSaddr, udpDport} {
		size := 4
		if w == udpDport {
			size = 2
		}
		l.word[w] = bits{p.check(common[i].Offset, size), size, 0, 1<<(8*size) - 1}
	}
	if !p.sound {
		return nil, nil
	}
	return l, nil
}
