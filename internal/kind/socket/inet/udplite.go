package inet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
)

// UDP-Lite (RFC 3828) is UDP whose checksum may cover a part of a datagram only.
// It has ports of its own. The kernel lets no program say whose a packet of it is,
// as with UDP: what waits at such a socket has to find its way by itself.

// Options of include/net/udplite.h that x/sys/unix has no name for.
const (
	udpliteSendCoverage    = 10 // UDPLITE_SEND_CSCOV
	udpliteReceiveCoverage = 11 // UDPLITE_RECV_CSCOV
)

// datagrams tells whether it is UDP or UDP-Lite.
func (s sort) datagrams() bool {
	return s.bare == 0 && (s.protocol == unix.IPPROTO_UDP || s.protocol == unix.IPPROTO_UDPLITE)
}

func (s sort) lite() bool { return s.bare == 0 && s.protocol == unix.IPPROTO_UDPLITE }

// ports is the protocol whose ports it has.
func (s sort) ports() int {
	if s.protocol == unix.IPPROTO_MPTCP {
		return unix.IPPROTO_TCP
	}
	return s.protocol
}

// udplite is the options of a UDP-Lite socket, which has those of UDP, too.
func udplite() socket.Table {
	row := func(name string, opt int) socket.Option {
		return socket.Option{Name: name, Level: unix.IPPROTO_UDPLITE, Opt: opt, Size: 4, When: socket.Early}
	}
	return socket.Table{row("UDPLITE_SEND_CSCOV", udpliteSendCoverage), row("UDPLITE_RECV_CSCOV", udpliteReceiveCoverage)}
}

// liteNames are the members that tell whether a coverage was set: until Linux 6.6,
// and since.
func liteNames() []string { return []string{"?udp_sock.pcflag", "?udp_sock.udp_flags"} }

// coverages are the options, and their bits in images.
var coverages = []struct {
	opt  int
	name string
	bit  uint32
}{{udpliteSendCoverage, "UDPLITE_SEND_CSCOV", 1}, {udpliteReceiveCoverage, "UDPLITE_RECV_CSCOV", 2}}

// readCoverage finds out which coverages of 0 were set: no datagram that is
// covered in part is taken then, and the options tell 0 of a new socket, too.
func (l *look) readCoverage(m *kmem.Reader) error {
	its, err := liteFlags(m, l.fd.Int())
	if err != nil {
		return err
	}
	n, err := l.like()
	if err != nil {
		return fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer unix.Close(n)
	set := uint32(0)
	for _, c := range coverages {
		before, err := liteFlags(m, n)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(n, unix.IPPROTO_UDPLITE, c.opt, 0); err != nil {
			return fmt.Errorf("set %s: %w", c.name, err)
		}
		after, err := liteFlags(m, n)
		if err != nil {
			return err
		}
		if its&(before^after) != 0 && l.value(c.name) == 0 {
			set |= c.bit
		}
	}
	if set != 0 {
		l.more.FullCoverage = proto.Uint32(set)
	}
	return nil
}

// liteFlags reads where the kernel notes what was set of a socket.
func liteFlags(m *kmem.Reader, fd int) (uint64, error) {
	at, err := m.Sock(fd)
	if err != nil {
		return 0, err
	}
	s, err := m.Struct("udp_sock", at)
	if err != nil {
		return 0, err
	}
	if m.Has("udp_sock.pcflag") {
		return uint64(s.U8("udp_sock.pcflag")), nil
	}
	return binary.NativeEndian.Uint64(s.Raw("udp_sock.udp_flags", 8)), nil
}

func (s sort) checkCoverage(e *extra.SocketEntry) error {
	if n := e.GetFullCoverage(); n > 3 || n != 0 && !s.lite() {
		return fmt.Errorf("coverage %#x of UDP-Lite can't be", n)
	}
	return nil
}

// setCoverage sets the coverages of 0 that were set.
func (u *unseen) setCoverage(own int) error {
	for _, c := range coverages {
		if u.entry.GetFullCoverage()&c.bit == 0 {
			continue
		}
		if err := unix.SetsockoptInt(own, unix.IPPROTO_UDPLITE, c.opt, 0); err != nil {
			return fmt.Errorf("set %s to 0: %w", c.name, err)
		}
	}
	return nil
}

// checkLiteInbox refuses what waits at a socket that a packet would not find: one
// that came to a group, or that others might get, or by an interface that it is
// bound to. All come over the loopback interface.
func (l *look) checkLiteInbox(box *inbox) error {
	why := ""
	for _, d := range box.waiting {
		if d.to.IsMulticast() || !l.at.ip.IsUnspecified() && d.to != l.at.ip.Unmap() {
			why = "datagrams to " + d.to.String() + " wait"
		}
	}
	switch {
	case len(box.waiting) == 0:
		return nil
	case l.value("SO_REUSEADDR") != 0 || l.value("SO_REUSEPORT") != 0:
		why = "datagrams wait, and it may share its port (SO_REUSEADDR, SO_REUSEPORT)"
	case l.opts.Entry.GetSoBoundDev() != "":
		why = "datagrams wait, and it is bound to an interface (SO_BINDTODEVICE)"
	}
	if why != "" {
		return fmt.Errorf("%w: of UDP-Lite, %s", errInbox, why)
	}
	return nil
}

// receiveLite puts datagrams into the queue of a socket that isn't connected yet.
func (n *node) receiveLite(own int) error {
	for _, d := range n.inbox.waiting {
		before, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
		if err != nil {
			return err
		}
		if err := d.send(d.packet(unix.IPPROTO_UDPLITE, 6)); err != nil {
			return fmt.Errorf("send it a datagram as if from %v: %w", d.from, err)
		}
		err = arrived(func() (bool, error) {
			now, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
			return now > before, err
		})
		if err != nil {
			return fmt.Errorf("a datagram of %d bytes from %v: %w", len(d.body)-udpHeader, d.from, err)
		}
	}
	return nil
}

// planLiteInbox checks what waits at a UDP-Lite socket.
func (n *node) planLiteInbox() error {
	for _, d := range n.inbox.waiting {
		if d.to.IsMulticast() || !n.at.ip.IsUnspecified() && d.to != n.at.ip.Unmap() {
			return fmt.Errorf("a datagram to %v can't wait at %v", d.to, n.at)
		}
	}
	if len(n.inbox.waiting) > 0 && n.opts.Entry.GetSoBoundDev() != "" {
		return errors.New("datagrams of UDP-Lite wait, and it is bound to an interface: nobody could put them back")
	}
	return nil
}
