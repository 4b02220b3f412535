package inet

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kmem"
)

// A UDP socket that is disconnected (connect(2) to AF_UNSPEC) keeps the address
// and port that it was bound to, and loses what connect(2) gave it. Which of them
// is which only the kernel knows.

// Of sk_userlocks, include/net/sock.h.
const (
	boundAddress = 4 // SOCK_BINDADDR_LOCK
	boundPort    = 8 // SOCK_BINDPORT_LOCK
)

func readLent(m *kmem.Reader, fd int, e *extra.SocketEntry) error {
	if !m.Has("sock.sk_userlocks") {
		return nil
	}
	at, err := m.Sock(fd)
	if err != nil {
		return err
	}
	own, err := m.Struct("sock", at)
	if err != nil {
		return err
	}
	lend(own.Bits("sock.sk_userlocks"), e)
	return nil
}

// lend notes what is not bound, as sk_userlocks tells.
func lend(locks uint32, e *extra.SocketEntry) {
	if locks&boundAddress == 0 {
		e.LentAddress = proto.Bool(true)
	}
	if locks&boundPort == 0 {
		e.LentPort = proto.Bool(true)
	}
}

// readLent is for a socket that has the options of another, which may have no peer.
func (l *look) readLent() error {
	if !l.datagrams() || !l.peer.set() {
		return nil
	}
	m, err := l.kind.memory()
	if errors.Is(err, kmem.ErrUnavailable) {
		return nil
	}
	if err == nil {
		err = readLent(m, l.fd.Int(), l.more)
	}
	return l.fail(err)
}

// lent tells whether something of a socket's address is.
func (n *node) lent() bool {
	return n.datagrams() && n.peer.set() && !n.cut && (n.unseen.entry.GetLentAddress() || n.unseen.entry.GetLentPort())
}

// wide is what a socket is bound to that is to get the rest by connect(2).
func (n *node) wide() address {
	at := n.at
	if n.autobound() {
		at.port = 0
		return at
	}
	switch {
	case n.lent() && !n.unseen.entry.GetLentAddress():
	case n.family == unix.AF_INET:
		at.ip = netip.IPv4Unspecified()
	default:
		at.ip = netip.IPv6Unspecified()
	}
	if n.lent() && n.unseen.entry.GetLentPort() {
		at.port = 0
	}
	return at
}

// strayed tells whether a UDP socket of IPv6 got its address when it was connected to
// another peer, and is connected to one of IPv4 since: the kernel lets nobody connect so who
// is bound to that address.
func (n *node) strayed() bool {
	ip := n.at.ip
	return n.lent() && n.unseen.entry.GetLentAddress() && n.peer.ip.Is4In6() && ip.Is6() && !ip.Is4In6() && !ip.IsUnspecified()
}

// lendPort leaves the kernel one port to choose.
func (n *node) lendPort(own int, at address, zone int) error {
	port := uint32(n.at.port)
	if err := setPorts(own, port<<16|port); err != nil || !at.set() {
		return err
	}
	if err := n.unseen.bindAt(own, at, zone); err != nil {
		return fmt.Errorf("bind to %v: %w", at, err)
	}
	return nil
}

// freePort undoes lendPort.
func (n *node) freePort(own int) error {
	if !n.unseen.entry.GetLentPort() {
		return nil
	}
	return setPorts(own, uint32(n.number("IP_LOCAL_PORT_RANGE")))
}

// setPorts sets IP_LOCAL_PORT_RANGE (Linux 6.3). Where there is none, the socket
// is bound.
func setPorts(own int, ports uint32) error {
	err := unix.SetsockoptInt(own, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(ports))
	if errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("%w: there is no IP_LOCAL_PORT_RANGE", errSource)
	}
	if err != nil {
		return fmt.Errorf("set IP_LOCAL_PORT_RANGE: %w", err)
	}
	return nil
}
