package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes of an answer about an inet socket, see
// include/uapi/linux/inet_diag.h.
const (
	inetDiagInfo      = 2
	inetDiagSKMemInfo = 7  // Linux 3.6
	inetDiagShutdown  = 8  // Linux 3.7
	inetDiagMD5Sig    = 18 // Linux 4.14
)

const (
	inetRequestSize = 56  // struct inet_diag_req_v2
	inetMessageSize = 72  // struct inet_diag_msg
	md5KeySize      = 100 // struct tcp_diag_md5sig
)

// InetQuery says which inet sockets are asked for.
type InetQuery struct {
	Family   uint8  // AF_INET, AF_INET6
	Protocol uint8  // IPPROTO_*
	States   uint32 // bits 1<<TCP_*; 0 is all states
	Port     uint16 // their own, 0 for any
}

// Inet is one inet socket.
type Inet struct {
	Family   uint8
	State    uint8 // TCP_*
	Ino      uint32
	Cookie   uint64
	Device   uint32 // index of the interface it is bound to
	Src, Dst netip.AddrPort
	// RQueue is bytes of memory that what waits to be read takes; for a
	// listener it is how many connections wait to be accepted.
	RQueue uint32
	// WQueue is bytes of memory that what waits to be sent takes; for a
	// listener it is the backlog.
	WQueue   uint32
	UID      uint32
	Shutdown uint8 // 1 receiving, 2 sending, 3 both
	Mem      MemInfo
	HasMem   bool
	// Keys are the peers with a key of TCP_MD5SIG, told to those who have
	// CAP_NET_ADMIN. Only valid until the next answer.
	Keys []netip.Prefix
}

// EachInet calls fn with every socket that is asked for and has a port. The
// socket is only valid during the call.
func (c *Conn) EachInet(q InetQuery, fn func(*Inet) error) error {
	var s Inet
	return c.each(netlink.Dump, q.request(), func(b []byte) error {
		if err := ParseInet(b, &s); err != nil {
			return err
		}
		return fn(&s)
	})
}

func (q InetQuery) request() []byte {
	b := make([]byte, inetRequestSize)
	b[0], b[1] = q.Family, q.Protocol
	// The other attributes come unasked, keys only with INFO.
	b[2] = 1<<(inetDiagInfo-1) | 1<<(inetDiagSKMemInfo-1)
	states := q.States
	if states == 0 {
		states = allStates
	}
	binary.NativeEndian.PutUint32(b[4:], states)
	binary.BigEndian.PutUint16(b[8:], q.Port)
	return b
}

// ParseInet decodes an answer (struct inet_diag_msg and attributes) into s,
// whose Keys are used again.
func ParseInet(b []byte, s *Inet) error {
	keys := s.Keys[:0]
	*s = Inet{Keys: keys}
	if len(b) < inetMessageSize {
		return fmt.Errorf("%w: %d bytes for an inet socket", ErrCut, len(b))
	}
	s.Family, s.State = b[0], b[1]
	if s.Family != unix.AF_INET && s.Family != unix.AF_INET6 {
		return fmt.Errorf("sock_diag: answer of family %d to a question about inet sockets", b[0])
	}
	ne, be := binary.NativeEndian, binary.BigEndian
	s.Src = netip.AddrPortFrom(inetAddr(s.Family, b[8:]), be.Uint16(b[4:]))
	s.Dst = netip.AddrPortFrom(inetAddr(s.Family, b[24:]), be.Uint16(b[6:]))
	s.Device = ne.Uint32(b[40:])
	s.Cookie = uint64(ne.Uint32(b[44:])) | uint64(ne.Uint32(b[48:]))<<32
	s.RQueue, s.WQueue, s.UID, s.Ino = ne.Uint32(b[56:]), ne.Uint32(b[60:]), ne.Uint32(b[64:]), ne.Uint32(b[68:])
	return attributes(b[inetMessageSize:], s.attribute)
}

// inetAddr decodes an address, for which b has 16 bytes.
func inetAddr(family uint8, b []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b[:16]))
}

func (s *Inet) attribute(typ uint16, v []byte) (err error) {
	switch typ {
	case inetDiagSKMemInfo:
		s.HasMem, err = true, s.Mem.parse(typ, v)
	case inetDiagShutdown:
		if len(v) < 1 {
			return fmt.Errorf("%w: no shutdown state", ErrCut)
		}
		s.Shutdown = v[0]
	case inetDiagMD5Sig:
		return s.keys(v)
	}
	return err
}

// keys decodes the peers of keys, not the keys themselves: they are secret.
func (s *Inet) keys(v []byte) error {
	for ; len(v) >= md5KeySize; v = v[md5KeySize:] {
		p := netip.PrefixFrom(inetAddr(v[0], v[4:]), int(v[1]))
		if !p.IsValid() {
			return fmt.Errorf("sock_diag: key for %d bits of an address of family %d", v[1], v[0])
		}
		s.Keys = append(s.Keys, p)
	}
	if len(v) > 0 {
		return fmt.Errorf("%w: %d bytes are left behind the keys", ErrCut, len(v))
	}
	return nil
}

// FindInet returns the one socket that has both addresses, and belongs to the
// interface of this number, if it belongs to one, or, if there is none,
// the listener that would get such a connection. It is ENOENT if there is
// neither. Its Keys are not valid.
func (c *Conn) FindInet(protocol uint8, local, remote netip.AddrPort, device int) (Inet, error) {
	var s Inet
	err := c.each(0, oneInet(protocol, local, remote, device), func(b []byte) error { return ParseInet(b, &s) })
	s.Keys = nil
	return s, err
}

// Ends are what FindInet looks for.
type Ends struct {
	Local, Remote netip.AddrPort
	Device        int
}

// FindEach is FindInet for many at a time: it calls fn with the number of each pair of
// ends, by order, that somebody has or would get. The socket is only valid during the call.
func (c *Conn) FindEach(protocol uint8, all []Ends, fn func(i int, s *Inet)) error {
	var failed error
	var s Inet
	ask := func(i int) []byte {
		b := oneInet(protocol, all[i].Local, all[i].Remote, all[i].Device)
		b[2] = 0 // no more than who it is
		return b
	}
	err := c.nl.AskEach(unix.SOCK_DIAG_BY_FAMILY, len(all), ask, func(i int, body []byte, err error) {
		if err == nil {
			err = ParseInet(body, &s)
		}
		switch {
		case err == nil:
			fn(i, &s)
		case !errors.Is(err, unix.ENOENT):
			failed = err
		}
	})
	return errors.Join(explain(err), explain(failed))
}

// sockDestroy is SOCK_DESTROY of include/uapi/linux/sock_diag.h.
const sockDestroy = 21

// DestroyInet closes a socket that was found, whoever has it (Linux 4.5,
// CONFIG_INET_DIAG_DESTROY, CAP_NET_ADMIN): with ECONNABORTED for those who have it, and a
// reset for its peer.
func (c *Conn) DestroyInet(protocol uint8, s *Inet) error {
	b := oneInet(protocol, s.Src, s.Dst, int(s.Device))
	binary.NativeEndian.PutUint64(b[48:], s.Cookie)
	return c.ask(sockDestroy, netlink.Acknowledge, b, func([]byte) error { return nil })
}

// oneInet asks for one socket, whatever its cookie.
func oneInet(protocol uint8, local, remote netip.AddrPort, device int) []byte {
	q := InetQuery{Family: unix.AF_INET, Protocol: protocol}
	if local.Addr().Is6() {
		q.Family = unix.AF_INET6
	}
	b := q.request()
	be := binary.BigEndian
	be.PutUint16(b[8:], local.Port())
	be.PutUint16(b[10:], remote.Port())
	copy(b[12:], local.Addr().AsSlice())
	copy(b[28:], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[44:], uint32(device))
	const anyCookie = 1<<64 - 1 // INET_DIAG_NOCOOKIE
	binary.NativeEndian.PutUint64(b[48:], anyCookie)
	return b
}
