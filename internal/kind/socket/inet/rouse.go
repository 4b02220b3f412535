package inet

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
)

// A peer that was sending while nobody was here waits twice as long each time that it
// gets no answer. RFC 6069 has it take that back when it is told by ICMP, about the
// segment that it sends again and again, that the host could not be reached, as was
// true: it goes on at once, or after the first of these times. To a connection this is
// no error; who asks for one (SO_ERROR) is told of it all the same, until the next word of
// this end. So that comes right behind.

// mostRoused is how many peers are told.
const mostRoused = 1000

// firstTimeout is the shortest time after which Linux sends a segment again,
// TCP_RTO_MIN of include/net/tcp.h, and mostDoublings how often that is doubled before
// it is TCP_RTO_MAX.
const (
	firstTimeout  = 200 * time.Millisecond
	mostDoublings = 10
)

// rousing is what a restore knows of it.
type rousing struct {
	known bool
	times int // how often each peer is told
	peers int // that were told
}

// doublings is how often a peer may have waited in vain in a time.
func doublings(away time.Duration) int {
	return min(bits.Len64(uint64(away/firstTimeout+1))-1, mostDoublings)
}

// rouse has the peer of a connection send again. What comes of it is the peer's.
func (n *node) rouse() error {
	r := &n.kind.rousing
	if !n.live() || n.joined || r.peers == mostRoused {
		return nil
	}
	switch n.stream.State {
	case tcp.Established, tcp.FinWait1, tcp.FinWait2: // the peer may have something to send
	default:
		return nil
	}
	if !r.known {
		r.known, r.times = true, n.kind.readAway()
	}
	if r.times == 0 {
		return nil
	}
	r.peers++
	err := n.sendUnreachable(r.times)
	if err == nil {
		err = n.stream.Repeat(n.path(), true)
	}
	if err != nil {
		r.peers = mostRoused
		return fmt.Errorf("tell %v that it was not reached: it and others go on by their own timers: %w", n.peer, err)
	}
	return nil
}

// readAway returns how often peers may have waited in vain since the dump.
func (k *Kind) readAway() int {
	const unknown = mostDoublings / 2
	all, err := k.source.Entries(image.Inventory)
	if err != nil || len(all) != 1 {
		return unknown
	}
	then, now := all[0].Message.(*inventory.InventoryEntry).GetDumpUptime(), unix.Timespec{}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil || then == 0 {
		return unknown
	}
	away := now.Nano()/int64(time.Microsecond) - int64(min(then, math.MaxInt64))
	if away < 0 { // another host, or it has booted since
		return unknown
	}
	n := doublings(time.Duration(min(away, int64(time.Hour/time.Microsecond))) * time.Microsecond)
	if n > 0 { // they wait since before the time that is noted
		n++
	}
	return n
}

// unreachable is the message about the next segment that is awaited of the peer.
func (n *node) unreachable() *socket.Packet {
	be, at, peer := binary.BigEndian, n.at.addrPort(), n.peer.addrPort()
	head := make([]byte, tcpHeader)
	be.PutUint16(head, peer.Port())
	be.PutUint16(head[2:], at.Port())
	be.PutUint32(head[4:], n.stream.Entry.GetInqSeq())
	head[12], head[13] = tcpHeader/4<<4, flagAck
	sent := &socket.Packet{From: peer.Addr(), To: at.Addr(), Protocol: unix.IPPROTO_TCP, Hops: 64, Body: head}
	p := &socket.Packet{From: at.Addr(), To: peer.Addr(), Protocol: unix.IPPROTO_ICMP, Hops: 64}
	kind := []byte{3, 1, 0, 0, 0, 0, 0, 0} // RFC 792: destination unreachable, host
	if p.To.Is6() {
		p.Protocol, kind[0], kind[1] = unix.IPPROTO_ICMPV6, 1, 0 // RFC 4443: no route
	}
	p.Body = append(kind, sent.Bytes()...)
	p.Sum(2)
	return p
}

// Of a segment of TCP.
const (
	tcpHeader = 20
	flagAck   = 0x10
)

// sendUnreachable sends it so many times.
func (n *node) sendUnreachable(times int) error {
	p := n.unreachable()
	family := unix.AF_INET
	if p.To.Is6() {
		family = unix.AF_INET6
	}
	zone, err := n.zone()
	if err != nil {
		return err
	}
	fd, err := socket.OpenRaw(family)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to, b := address{ip: p.To}.sockaddr(family, zone), p.Bytes()
	for range times {
		if err := unix.Sendto(fd, b, unix.MSG_DONTWAIT, to); err != nil {
			return err
		}
	}
	return nil
}
