package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/netlock"
)

// Flags of a segment, RFC 9293.
const (
	flagFin = 0x01
	flagRst = 0x04
	flagAck = 0x10
)

// segment is a TCP segment without data, from the remote to the local end, that
// offers no window.
type segment struct {
	Path
	flags    uint8
	seq, ack uint32
}

const (
	headerSize = 20 // of TCP, and of IPv4
	header6    = 40 // of IPv6
	hops       = 64
)

// send hands the segment to the kernel, past the network lock.
func (s *segment) send() error {
	family := unix.AF_INET
	if s.v6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("make a raw socket (it needs CAP_NET_RAW): %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, netlock.PassMark); err != nil {
		return errors.Join(fmt.Errorf("set SO_MARK: %w", err), unix.Close(fd))
	}
	if err := unix.Sendto(fd, s.packet(), 0, s.to()); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	return unix.Close(fd)
}

func (s *segment) to() unix.Sockaddr {
	if s.v6() {
		return &unix.SockaddrInet6{Addr: s.Local.Addr().As16()}
	}
	return &unix.SockaddrInet4{Addr: s.Local.Addr().As4()}
}

// packet is the segment with the header of IP before it.
func (s *segment) packet() []byte {
	from, to := s.Remote.Addr().AsSlice(), s.Local.Addr().AsSlice()
	be := binary.BigEndian
	h := make([]byte, headerSize)
	be.PutUint16(h[0:], s.Remote.Port())
	be.PutUint16(h[2:], s.Local.Port())
	be.PutUint32(h[4:], s.seq)
	be.PutUint32(h[8:], s.ack)
	h[12], h[13] = headerSize/4<<4, s.flags
	// The pseudo header: both addresses, length, protocol.
	sum := checksum(checksum(checksum(headerSize+unix.IPPROTO_TCP, from), to), h)
	be.PutUint16(h[16:], ^uint16(sum))
	if s.v6() {
		ip := make([]byte, 8, header6+headerSize)
		ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_TCP, hops
		be.PutUint16(ip[4:], headerSize)
		return append(append(append(ip, from...), to...), h...)
	}
	ip := make([]byte, 12, 2*headerSize)
	ip[0], ip[8], ip[9] = 4<<4|headerSize/4, hops, unix.IPPROTO_TCP
	be.PutUint16(ip[2:], 2*headerSize)
	return append(append(append(ip, from...), to...), h...)
}

// checksum adds an even number of bytes to a sum as in RFC 1071.
func checksum(sum uint32, b []byte) uint32 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return sum
}
