package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// A UDP socket that is connected to port 0 of an address has no peer that getpeername(2)
// tells, and hears that address alone. One of IPv6 goes on to do so when it is
// disconnected (connect(2) to AF_UNSPEC): the kernel keeps the address.

// portlessNames are the members of structures that tell it.
func portlessNames() []string {
	return []string{"inet_sock", "sock_common.skc_state", "sock_common.skc_daddr", "sock_common.skc_v6_daddr"}
}

// readPortless finds out what a UDP socket hears that has no peer.
func (l *look) readPortless() error {
	if !l.datagrams() || l.peer.set() || l.loneOf() != nil {
		return nil
	}
	state, ip, err := l.hears()
	if err != nil {
		return l.fail(err)
	}
	switch a := (address{ip: ip}); {
	case !a.set():
	case state == established:
		l.peer = a
	case l.family == unix.AF_INET6:
		l.heard = a
	}
	return nil
}

// hears returns the state of a UDP socket, and the address that the kernel has for its peer.
func (l *look) hears() (uint8, netip.Addr, error) {
	m, err := l.kind.memory()
	if errors.Is(err, kmem.ErrUnavailable) {
		return l.hearsListed()
	}
	if err != nil {
		return 0, netip.Addr{}, err
	}
	at, err := m.Sock(l.fd.Int())
	if err != nil {
		return 0, netip.Addr{}, err
	}
	own, err := m.Struct("inet_sock", at)
	if err != nil {
		return 0, netip.Addr{}, err
	}
	ip := netip.AddrFrom4([4]byte(own.Raw("sock_common.skc_daddr", 4)))
	if l.family == unix.AF_INET6 {
		ip = netip.AddrFrom16([16]byte(own.Raw("sock_common.skc_v6_daddr", 16)))
	}
	return own.U8("sock_common.skc_state"), ip, nil
}

// hearsListed is hears by the lists of /proc/net, which are read once.
func (l *look) hearsListed() (uint8, netip.Addr, error) {
	name := "udp"
	if l.lite() {
		name = "udplite"
	}
	if l.family == unix.AF_INET6 {
		name += "6"
	}
	all, err := l.kind.listOf(name)
	return all[l.file.Stat.Ino].State, all[l.file.Stat.Ino].Remote.Addr(), err
}

// hearing is what an image has as the peer.
func (l *look) hearing() address {
	if l.heard.set() {
		return l.heard
	}
	return l.peer
}

// planPortless tells a peer that was taken away from one that is there, as images of criu
// have it, too.
func (n *node) planPortless() {
	if n.datagrams() && n.entry.state == closed && n.peer.set() && n.peer.port == 0 {
		peer := n.peer
		n.give(func(m *more) { m.heard = peer })
		n.peer = address{}
	}
}

// discard is a port that a socket is connected to for a moment. Nothing is sent there.
const discard = 9

// hearOnly has a socket hear the address alone that it was connected to once. What may have
// come since, and keeps it from there, it is without meanwhile.
func (n *node) hearOnly(own int) error {
	if !n.few().heard.set() {
		return nil
	}
	if n.opts.Entry.GetSoBoundDev() != "" { // who is disconnected belongs to none
		if err := socket.BindToDevice(own, ""); err != nil {
			return err
		}
	}
	lone := linux.SockOpt{Level: unix.IPPROTO_IPV6, Name: unix.IPV6_V6ONLY, Value: n.number("IPV6_V6ONLY")}
	if !n.few().heard.ip.Is4In6() || lone.Value == 0 {
		return errors.Join(n.meet(own), socket.AttachDevice(own, n.opts.Entry))
	}
	if err := unix.SetsockoptInt(own, lone.Level, lone.Name, 0); err != nil {
		return fmt.Errorf("set IPV6_V6ONLY to 0: %w", err)
	}
	return errors.Join(n.meet(own), lone.Set(own), socket.AttachDevice(own, n.opts.Entry))
}

// meet connects the socket to that address, and disconnects it. By which interface it went
// there nobody knows any more, and it doesn't matter.
func (n *node) meet(own int) (err error) {
	err = n.few().heard.anywhere(func(zone int) error {
		return n.unseen.connectTo(own, address{n.few().heard.ip, discard}, zone)
	})
	if err != nil {
		return fmt.Errorf("connect to %v, the only address that it heard, and there must be a route to: %w", n.few().heard.ip, err)
	}
	if err := linux.Connect(own, binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC)); err != nil {
		return fmt.Errorf("disconnect from %v: %w", n.few().heard.ip, err)
	}
	return nil
}

// anywhere tries a call with each interface that an address may be by, until one works.
func (a address) anywhere(try func(zone int) error) (err error) {
	if !linkLocal(a) {
		return try(0)
	}
	all, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	err = unix.ENODEV
	for _, i := range all {
		if err = try(i.Index); err == nil {
			break
		}
	}
	return err
}

// checkHeard refuses a socket that couldn't meet the only address that it hears, as there is
// no route to that by now.
func (l *look) checkHeard() error {
	if !l.heard.set() {
		return nil
	}
	n, err := unix.Socket(l.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return l.fail(fmt.Errorf("make a socket to look for a route with: %w", err))
	}
	defer unix.Close(n)
	if mark := l.value("SO_MARK"); mark != 0 {
		if err := unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return l.fail(fmt.Errorf("set SO_MARK: %w", err))
		}
	}
	err = l.heard.anywhere(func(zone int) error {
		return unix.Connect(n, address{l.heard.ip, discard}.sockaddr(l.family, zone))
	})
	if err != nil {
		return l.refuse("it was disconnected, and hears %v alone, to which there is no route by now (%v), so that it couldn't be brought to that again; add one, or let the process close it", l.heard.ip, err)
	}
	return nil
}

// hearsLate tells whether what waits at it comes by itself, from whomever, and before it
// hears one address alone.
func (n *node) hearsLate() bool { return n.inbox != nil && n.lite() }
