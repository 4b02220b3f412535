package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/netlock"
)

// Flags of a segment, RFC 9293.
const (
	flagFin = 0x01
	flagRst = 0x04
	flagPsh = 0x08
	flagAck = 0x10
)

// segment is a TCP segment from the remote to the local end.
type segment struct {
	Path
	flags    uint8
	seq, ack uint32
	window   uint16
	options  []byte // a multiple of 4
	data     []byte
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
	h := make([]byte, headerSize, headerSize+len(s.options)+len(s.data))
	be.PutUint16(h[0:], s.Remote.Port())
	be.PutUint16(h[2:], s.Local.Port())
	be.PutUint32(h[4:], s.seq)
	be.PutUint32(h[8:], s.ack)
	h[12], h[13] = byte(headerSize+len(s.options))/4<<4, s.flags
	be.PutUint16(h[14:], s.window)
	h = append(append(h, s.options...), s.data...)
	// The pseudo header: both addresses, length, protocol.
	sum := checksum(checksum(checksum(uint32(len(h))+unix.IPPROTO_TCP, from), to), h)
	be.PutUint16(h[16:], ^uint16(sum))
	return append(ipHeader(from, to, len(h)), h...)
}

// ipHeader is the header of a packet of TCP with size bytes behind it.
func ipHeader(from, to []byte, size int) []byte {
	var ip []byte
	if len(from) == net.IPv6len {
		ip = make([]byte, 8, header6)
		ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_TCP, hops
		binary.BigEndian.PutUint16(ip[4:], uint16(size))
	} else {
		ip = make([]byte, 12, headerSize)
		ip[0], ip[8], ip[9] = 4<<4|headerSize/4, hops, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(ip[2:], uint16(headerSize+size))
	}
	return append(append(ip, from...), to...)
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
