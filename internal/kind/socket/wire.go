package socket

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/netlock"
)

// Packet is a packet of IP that is made here, as if it came from elsewhere: what
// only a peer could send, or has sent before.
type Packet struct {
	From, To netip.Addr // of one family
	Protocol uint8      // IPPROTO_*
	Hops     uint8      // how far it may go yet: TTL
	Class    uint8      // TOS
	Label    uint32     // flow label, of IPv6
	Body     []byte
	// Device is the interface that the kernel is to take it for one of; "": any
	// that has the address it is sent by way of.
	Device string
	// Whole is the packet with its header, as it was received, in the place of all
	// but From, To and Device; nil: there is none.
	Whole []byte
	Mark  int // 0: the one that the network lock lets pass
}

// Sizes of headers, in bytes.
const (
	header4 = 20
	header6 = 40
)

// Send hands the packet to the kernel, past the network lock, by way of an
// address of this machine: that is where it arrives, whoever it is for. It needs
// CAP_NET_RAW.
func (p *Packet) Send(at netip.Addr) error {
	family := unix.AF_INET
	var to unix.Sockaddr = &unix.SockaddrInet4{}
	if p.To.Is6() {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: at.As16()}
	} else {
		to = &unix.SockaddrInet4{Addr: at.As4()}
	}
	fd, err := OpenRaw(family)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, cmp.Or(p.Mark, netlock.PassMark)); err != nil {
		return errors.Join(fmt.Errorf("set SO_MARK: %w", err), unix.Close(fd))
	}
	if at.Is4() {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return errors.Join(fmt.Errorf("set SO_BROADCAST: %w", err), unix.Close(fd))
		}
	}
	if p.Device != "" {
		if err := BindToDevice(fd, p.Device); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
	}
	if err := unix.Sendto(fd, p.Bytes(), 0, to); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	return unix.Close(fd)
}

// OpenRaw makes a socket that sends packets with their header: raw(7).
func OpenRaw(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return -1, fmt.Errorf("make a raw socket (it needs CAP_NET_RAW): %w", err)
	}
	return fd, nil
}

// Bytes is the packet with the header of IP before it.
func (p *Packet) Bytes() []byte {
	if p.Whole != nil {
		return p.Whole
	}
	be := binary.BigEndian
	var ip []byte
	if p.To.Is6() {
		ip = make([]byte, 8, header6+len(p.Body))
		be.PutUint32(ip, 6<<28|uint32(p.Class)<<20|p.Label)
		ip[6], ip[7] = p.Protocol, p.Hops
		be.PutUint16(ip[4:], uint16(len(p.Body)))
	} else {
		ip = make([]byte, 12, header4+len(p.Body))
		ip[0], ip[1], ip[8], ip[9] = 4<<4|header4/4, p.Class, p.Hops, p.Protocol
		be.PutUint16(ip[2:], uint16(header4+len(p.Body)))
	}
	return append(append(append(ip, p.From.AsSlice()...), p.To.AsSlice()...), p.Body...)
}

// Sum puts the checksum of TCP, UDP or ICMP at a place in the body, which is 0
// there.
func (p *Packet) Sum(at int) {
	sum := uint32(0)
	if p.Protocol != unix.IPPROTO_ICMP { // which has no pseudo header
		sum = checksum(checksum(uint32(len(p.Body))+uint32(p.Protocol), p.From.AsSlice()), p.To.AsSlice())
	}
	sum = ^checksum(sum, p.Body) & 0xffff
	if sum == 0 && (p.Protocol == unix.IPPROTO_UDP || p.Protocol == unix.IPPROTO_UDPLITE) { // which means none there
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(p.Body[at:], uint16(sum))
}

// checksum adds bytes to a sum as in RFC 1071; an odd number only as the last.
func checksum(sum uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return sum
}
