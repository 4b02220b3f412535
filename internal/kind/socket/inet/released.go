package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
)

// When a connection comes to its end, the kernel frees the port that connect(2) or
// accept(2) gave its socket, though getsockname(2) still tells it. A socket that is bound
// keeps it. So one that was refused is left to the kernel, with one port to choose from,
// and others come out of a listener, where they are put like those that wait to be
// accepted.

// createReleased makes such a socket, without a port.
func (n *node) createReleased() (*fd.FD, error) {
	make := n.acceptEnd
	if end := n.end(); end.Refused() {
		make = n.like
	}
	num, err := make()
	if err != nil {
		return nil, err
	}
	own := fd.New(num)
	n.freely = true
	err = n.finish(linux.Hand{}, own, n.at)
	n.freely = false
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// endFreely has a socket of createReleased come to its end.
func (n *node) endFreely(num int, end *tcp.End, connect func(port uint16) error) error {
	if !end.Refused() {
		return nil // acceptEnd has seen to it
	}
	port := uint32(n.at.port)
	if err := setPorts(num, port<<16|port); err != nil {
		return err
	}
	err := end.Refuse(num, connect)
	if err == nil && n.checkSource(num) != nil {
		err = n.refuseBound(num, end, connect)
	}
	return errors.Join(err, setPorts(num, uint32(n.number("IP_LOCAL_PORT_RANGE"))))
}

// refuseBound does it anew from the address that it was bound to without a port: routing
// has chosen another one.
func (n *node) refuseBound(num int, end *tcp.End, connect func(port uint16) error) error {
	if err := linux.Connect(num, binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC)); err != nil {
		return fmt.Errorf("disconnect: %w", err)
	}
	noPort := linux.SockOpt{Level: unix.IPPROTO_IP, Name: unix.IP_BIND_ADDRESS_NO_PORT, Value: 1}
	if err := noPort.Set(num); err != nil {
		return err
	}
	zone, err := n.zone()
	if err != nil {
		return err
	}
	if err := n.unseen.bindAt(num, address{ip: n.at.ip}, zone); err != nil {
		return fmt.Errorf("bind to %v: %w", n.at.ip, err)
	}
	noPort.Value = n.number("IP_BIND_ADDRESS_NO_PORT")
	if err := noPort.Set(num); err != nil {
		return err
	}
	return errors.Join(end.Refuse(num, connect), n.checkSource(num))
}

// acceptEnd accepts a connection that has come to its end, from a listener of ours.
func (n *node) acceptEnd() (num int, err error) {
	k := n.kind
	if linkLocal(n.at) {
		return 0, errors.New("it would belong to the loopback interface")
	}
	if k.admitter == nil {
		if k.admitter, err = tcp.NewAdmitter(); err != nil {
			return 0, err
		}
	}
	l, err := n.like()
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(l)
	any := netip.MustParseAddr(map[bool]string{true: "::1", false: "127.0.0.1"}[n.family == unix.AF_INET6])
	if n.at.ip.Is4In6() {
		any = netip.MustParseAddr("::ffff:127.0.0.1")
	}
	if err := unix.Bind(l, address{any, 0}.sockaddr(n.family, 0)); err != nil {
		return 0, fmt.Errorf("bind to %v: %w", any, err)
	}
	if err := tcp.Listen(l, 1); err != nil {
		return 0, err
	}
	end := n.end()
	if err := k.admitter.Admit(l, end.Waiting()); err != nil {
		return 0, err
	}
	if num, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC); err != nil {
		return 0, fmt.Errorf("accept: %w", err)
	}
	err = errors.Join(n.checkSource(num), end.Accepted(num))
	if err == nil && n.family == unix.AF_INET6 && !n.at.ip.Is4In6() { // it has that from its listener, who is bound
		err = linux.SetsockoptInt(num, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err != nil {
		return 0, errors.Join(err, unix.Close(num))
	}
	return num, nil
}
