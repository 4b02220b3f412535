package inet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockdiag"
)

// established is what the kernel calls a UDP socket with a peer, see
// include/net/tcp_states.h.
const (
	established = 1
	closed      = 7
	listening   = 10
)

// inbox is what a UDP socket has in its queues.
type inbox struct {
	waiting []*datagram // in order
	errs    []*datagram // ICMP messages
	err     unix.Errno  // what the next call reports, 0 if nothing
	unsent  *unsent

	extended bool // one came with options of IP, or extension headers
}

// datagram is one that was received, or an ICMP message about one that was sent.
type datagram struct {
	from, to    netip.Addr
	hops, class uint8
	label       uint32 // flow label, of IPv6
	device      string // of a link-local address, else ""
	body        []byte // with the header of UDP or ICMP
	time        uint64 // when it came, ns since 1970; 0: not noted
	summed      bool   // its checksum was computed, and IP_CHECKSUM tells it
}

// checkDatagrams looks at the queues of a UDP socket, which are empty mostly.
func (l *look) checkDatagrams() error {
	if n := l.value("UDP_ENCAP"); n > unix.UDP_ENCAP_ESPINUDP {
		return l.refuse("it is the end of a tunnel that the kernel has (UDP_ENCAP %d: L2TP, GTP or RxRPC), which would end with it; take that down first", n)
	}
	l.stateOfPeer()
	l.leavePort()
	if l.loneOf() != nil {
		return l.checkInside()
	}
	p := []unix.PollFd{{Fd: int32(l.fd.Int()), Events: unix.POLLIN | unix.POLLRDHUP | unix.POLLOUT}}
	if _, err := linux.PollNow(p); err != nil {
		return l.fail(fmt.Errorf("poll: %w", err))
	}
	out, err := unix.IoctlGetInt(l.fd.Int(), unix.SIOCOUTQ)
	if err != nil {
		return l.fail(fmt.Errorf("read SIOCOUTQ: %w", err))
	}
	// A socket that is shut down for sending only looks like any other.
	if p[0].Revents&(unix.POLLIN|unix.POLLRDHUP|unix.POLLERR) == 0 && out == 0 {
		shutdown, err := l.shutdownOf()
		l.shutdown = shutdown
		return err
	}
	return l.checkInside()
}

// checkInside reads what is in its queues from the kernel's memory.
func (l *look) checkInside() error {
	m, err := l.kind.memory()
	if err != nil {
		return l.refuse("something is in its queues or waits to be reported, or it was shut down, and what can't be known (%v); let the process read it first", err)
	}
	err = l.readInbox(m)
	if errors.Is(err, errInbox) {
		return l.refuse("%v; let the process read it first", err)
	}
	return l.fail(err)
}

// stateOfPeer is what the kernel calls a UDP socket.
func (l *look) stateOfPeer() {
	if l.state = closed; l.peer.set() {
		l.state = established
	}
}

// shutdownOf tells in which directions a UDP socket that has a port is shut
// down. Where the kernel's memory can't be read, sock_diag is asked for all of the
// namespace, once.
func (l *look) shutdownOf() (uint8, error) {
	if m, err := l.kind.memory(); err == nil {
		at, err := m.Sock(l.fd.Int())
		if err != nil {
			return 0, l.fail(err)
		}
		s, err := m.Struct("sock", at)
		if err != nil {
			return 0, l.fail(err)
		}
		return s.U8("sock.sk_shutdown") & shutBoth, nil
	}
	if l.kind.udp[l.sort] == nil {
		all := map[uint32]uint8{}
		err := l.diag(func(c *sockdiag.Conn) error {
			q := sockdiag.InetQuery{Family: uint8(l.family), Protocol: uint8(l.protocol)}
			return l.fail(c.EachInet(q, func(s *sockdiag.Inet) error {
				all[s.Ino] = s.Shutdown
				return nil
			}))
		})
		if err != nil {
			return 0, err
		}
		l.kind.udp[l.sort] = all
	}
	return l.kind.udp[l.sort][uint32(l.file.Stat.Ino)], nil
}

// readInbox reads all that is in the queues, without taking it.
func (l *look) readInbox(m *kmem.Reader) error {
	at, err := l.sock(m)
	if err != nil {
		return err
	}
	s, err := m.Struct("udp_sock", at)
	if err != nil {
		return err
	}
	box := &inbox{err: unix.Errno(s.U32("sock.sk_err"))}
	l.shutdown = s.U8("sock.sk_shutdown") & shutBoth
	// What was received last is in the socket's own queue, all before in the
	// reader's.
	for _, q := range []string{"udp_sock.reader_queue", "sock.sk_receive_queue"} {
		if err := box.readQueue(m, at+m.Off(q)); err != nil {
			return err
		}
	}
	if err := box.readErrors(m, at+m.Off("sock.sk_error_queue")); err != nil {
		return err
	}
	if s.U32("udp_sock.pending") != 0 {
		if box.unsent, err = l.readUnsent(m, s); err != nil {
			return err
		}
	}
	if err := l.checkInbox(box); err != nil {
		return err
	}
	l.inbox = box
	return box.save(l.env, &l.file.ID)
}

// sock returns where the kernel has the socket.
func (l *look) sock(m *kmem.Reader) (kmem.Addr, error) {
	if o := l.loneOf(); o != nil {
		return o.sk, nil
	}
	return m.Sock(l.fd.Int())
}

// errInbox says that something in a queue can't be put back.
var errInbox = errors.New("what is in its queues can't be put back")

// headerOptions ask for what else is in the header of a datagram.
var headerOptions = []string{
	"IP_RECVOPTS", "IP_RETOPTS", "IPV6_RECVHOPOPTS", "IPV6_RECVRTHDR", "IPV6_RECVDSTOPTS", "IPV6_2292HOPOPTS", "IPV6_2292RTHDR", "IPV6_2292DSTOPTS",
}

// checkInbox refuses what can't be put back.
func (l *look) checkInbox(box *inbox) error {
	alone := l.value("SO_REUSEADDR") == 0 && l.value("SO_REUSEPORT") == 0 || l.peer.set()
	switch {
	case len(box.waiting) > 0 && l.at.port == 0:
		return fmt.Errorf("%w: datagrams wait, and it has no port any more", errInbox)
	case !(&failed{inbox: box, at: l.at, peer: l.peer}).possible():
		return fmt.Errorf("%w: an error (%v) waits to be reported", errInbox, box.err)
	case (box.err != 0 || len(box.errs) > 0) && !alone:
		return fmt.Errorf("%w: errors wait, and it may share its port (SO_REUSEADDR, SO_REUSEPORT)", errInbox)
	case box.extended && slices.ContainsFunc(headerOptions, func(name string) bool { return l.value(name) != 0 }):
		return fmt.Errorf("%w: a datagram with options or extensions in its header waits, and the process asks for those (IP_RECVOPTS, IPV6_RECVHOPOPTS and others)", errInbox)
	case len(box.waiting) > 0 && l.value("UDP_ENCAP") != 0:
		return fmt.Errorf("%w: datagrams wait that are a tunnel's (UDP_ENCAP)", errInbox)
	}
	if l.lite() {
		return l.checkLiteInbox(box)
	}
	if len(box.waiting) == 0 || l.kind.feeds {
		return nil
	}
	if err := canFeed(); err != nil {
		return fmt.Errorf("%w: %w", errInbox, err)
	}
	l.kind.feeds = true
	return nil
}

// save writes what is in the queues of a socket, by its number.
func (b *inbox) save(env *kind.DumpEnv, socket *uint32) error {
	put := func(d *datagram, failed bool) error {
		if err := env.Check(); err != nil {
			return err
		}
		n := func(v uint8) *uint32 { return proto.Uint32(uint32(v)) }
		e := &extra.Datagram{Socket: socket, From: d.from.AsSlice(), To: d.to.AsSlice(), Hops: n(d.hops), Class: n(d.class), Data: d.body}
		if d.device != "" {
			e.Interface = &d.device
		}
		if failed {
			e.Error = &failed
		}
		if d.label != 0 {
			e.Label = &d.label
		}
		if d.time != 0 {
			e.Time = &d.time
		}
		if d.summed {
			e.Summed = &d.summed
		}
		return env.Images.Put(extra.Datagrams, e, nil)
	}
	for _, d := range b.waiting {
		if err := put(d, false); err != nil {
			return err
		}
	}
	for _, d := range b.errs {
		if err := put(d, true); err != nil {
			return err
		}
	}
	return nil
}

// put writes what belongs to the socket itself.
func (b *inbox) put(e *extra.SocketEntry) {
	if b == nil {
		return
	}
	if b.err != 0 {
		e.Error = proto.Uint32(uint32(b.err))
	}
	if b.unsent == nil {
		return
	}
	e.Unsent = b.unsent.entry()
}
