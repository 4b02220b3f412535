package sockdiag

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Show says what a request about unix sockets wants to know (UDIAG_SHOW_* of
// include/uapi/linux/unix_diag.h).
type Show uint32

// What can be asked for. The shutdown state always comes along.
const (
	ShowName    Show = 1 << iota // Linux 3.3, as the next four
	ShowVFS                      // device and inode of a name in the file system
	ShowPeer                     // inode of the peer
	ShowIcons                    // inodes of connections that wait to be accepted
	ShowRQLen                    // bytes queued, or the backlog
	ShowMemInfo                  // Linux 3.10
	ShowUID                      // Linux 5.3
)

// Attributes of an answer, from the same header.
const (
	unixDiagName = iota
	unixDiagVFS
	unixDiagPeer
	unixDiagIcons
	unixDiagRQLen
	unixDiagMemInfo
	unixDiagShutdown
	unixDiagUID
)

const (
	unixRequestSize = 24 // struct unix_diag_req
	unixMessageSize = 16 // struct unix_diag_msg
	allStates       = ^uint32(0)
	noCookie        = ^uint64(0) // INET_DIAG_NOCOOKIE, twice
)

// Unix is one unix socket.
type Unix struct {
	Type   uint8 // SOCK_*
	State  uint8 // TCP_CLOSE, TCP_LISTEN, TCP_ESTABLISHED
	Ino    uint32
	Cookie uint64

	// Name is the address without family and without the NUL that ends a
	// path: a path, NUL and an abstract name, or nil. It is only valid
	// until the next answer.
	Name     []byte
	VFSDev   uint32 // as the kernel packs it (new_encode_dev is not applied)
	VFSIno   uint32
	HasVFS   bool
	HasPeer  bool   // it has a peer; if Peer is 0, that has no inode (any more)
	Peer     uint32 // inode
	Shutdown uint8  // 1 receiving, 2 sending, 3 both
	UID      uint32

	// Icons are the inodes of the clients in the accept queue, 0 for one that
	// is closed already. Only valid until the next answer.
	Icons []uint32
	// RQueue is bytes to be read: of everything for a stream or seqpacket
	// socket, of the first message for a datagram socket; for a listener it
	// is the length of the accept queue.
	RQueue uint32
	// WQueue is bytes of memory that what was sent and not yet read takes;
	// for a listener it is the backlog.
	WQueue uint32
	Mem    MemInfo
	HasMem bool
}

// MemInfo is SK_MEMINFO_* of include/uapi/linux/sock_diag.h, in bytes.
type MemInfo struct {
	RmemAlloc, Rcvbuf, WmemAlloc, Sndbuf, FwdAlloc, WmemQueued, Optmem, Backlog, Drops uint32
}

// EachUnix calls fn with every unix socket of the namespace. The socket is
// only valid during the call. It takes some 0.5 µs per socket.
func (c *Conn) EachUnix(show Show, fn func(*Unix) error) error {
	return c.eachUnix(allStates, show, fn)
}

// EachListener is EachUnix for those that listen. The kernel ends its answer at one
// whose ShowIcons has no room (more than some 8000), and doesn't tell.
func (c *Conn) EachListener(show Show, fn func(*Unix) error) error {
	const tcpListen = 10 // include/net/tcp_states.h
	return c.eachUnix(1<<tcpListen, show, fn)
}

func (c *Conn) eachUnix(states uint32, show Show, fn func(*Unix) error) error {
	var u Unix
	return c.each(netlink.Dump, unixRequest(states, 0, noCookie, show), func(b []byte) error {
		if err := ParseUnix(b, &u); err != nil {
			return err
		}
		return fn(&u)
	})
}

// Unix asks for one socket by inode and, unless 0, cookie. The kernel searches
// all sockets of the namespace for it: ask for a few this way, for many with
// EachUnix. No such socket is unix.ENOENT, another cookie unix.ESTALE, ShowIcons of more
// than some 1900 unix.EMSGSIZE.
func (c *Conn) Unix(ino uint32, cookie uint64, show Show) (*Unix, error) {
	if cookie == 0 {
		cookie = noCookie
	}
	u := &Unix{}
	found := false
	err := c.each(0, unixRequest(allStates, ino, cookie, show), func(b []byte) error {
		found = true
		err := ParseUnix(b, u)
		u.Name = bytes.Clone(u.Name)
		return err
	})
	if err == nil && !found {
		err = unix.ENOENT
	}
	if err != nil {
		return nil, fmt.Errorf("unix socket %d: %w", ino, err)
	}
	return u, nil
}

func unixRequest(states, ino uint32, cookie uint64, show Show) []byte {
	b := make([]byte, unixRequestSize)
	ne := binary.NativeEndian
	b[0] = unix.AF_UNIX
	ne.PutUint32(b[4:], states)
	ne.PutUint32(b[8:], ino)
	ne.PutUint32(b[12:], uint32(show))
	ne.PutUint32(b[16:], uint32(cookie))
	ne.PutUint32(b[20:], uint32(cookie>>32))
	return b
}

// ParseUnix decodes an answer (struct unix_diag_msg and attributes) into u,
// whose Icons are used again. u.Name is part of b.
func ParseUnix(b []byte, u *Unix) error {
	icons := u.Icons[:0]
	*u = Unix{Icons: icons}
	if len(b) < unixMessageSize {
		return fmt.Errorf("%w: %d bytes for a unix socket", ErrCut, len(b))
	}
	if b[0] != unix.AF_UNIX {
		return fmt.Errorf("sock_diag: answer of family %d to a question about unix sockets", b[0])
	}
	ne := binary.NativeEndian
	u.Type, u.State = b[1], b[2]
	u.Ino = ne.Uint32(b[4:])
	u.Cookie = uint64(ne.Uint32(b[8:])) | uint64(ne.Uint32(b[12:]))<<32
	return attributes(b[unixMessageSize:], u.attribute)
}

func (u *Unix) attribute(typ uint16, v []byte) (err error) {
	switch typ {
	case unixDiagName:
		if u.Name = v; len(v) > 0 && v[0] != 0 {
			u.Name = bytes.TrimSuffix(v, []byte{0})
		}
	case unixDiagVFS:
		u.HasVFS = true
		u.VFSIno, u.VFSDev, err = words(typ, v)
	case unixDiagPeer:
		u.HasPeer = true
		u.Peer, err = word(typ, v)
	case unixDiagIcons:
		for ; len(v) >= 4; v = v[4:] {
			u.Icons = append(u.Icons, binary.NativeEndian.Uint32(v))
		}
	case unixDiagRQLen:
		u.RQueue, u.WQueue, err = words(typ, v)
	case unixDiagMemInfo:
		u.HasMem, err = true, u.Mem.parse(typ, v)
	case unixDiagShutdown:
		if len(v) < 1 {
			return fmt.Errorf("%w: no shutdown state", ErrCut)
		}
		u.Shutdown = v[0]
	case unixDiagUID:
		u.UID, err = word(typ, v)
	}
	return err
}

// words returns the two 32-bit words of an attribute.
func words(typ uint16, v []byte) (a, b uint32, err error) {
	if len(v) < 8 {
		return 0, 0, fmt.Errorf("%w: attribute %d has %d bytes", ErrCut, typ, len(v))
	}
	return binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:]), nil
}

// parse decodes what the kernel tells; older ones tell less (no Backlog before
// Linux 3.15, no Drops before 4.7).
func (m *MemInfo) parse(typ uint16, v []byte) error {
	fields := [...]*uint32{&m.RmemAlloc, &m.Rcvbuf, &m.WmemAlloc, &m.Sndbuf, &m.FwdAlloc, &m.WmemQueued, &m.Optmem, &m.Backlog, &m.Drops}
	const least = 7 * 4
	if len(v) < least {
		return fmt.Errorf("%w: attribute %d has %d bytes", ErrCut, typ, len(v))
	}
	for i, f := range fields {
		if len(v) < 4*i+4 {
			return nil
		}
		*f = binary.NativeEndian.Uint32(v[4*i:])
	}
	return nil
}
