package inet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// putLocal notes which interface the local address of a connection is on, once
// for each address. One that is on none (IP_FREEBIND, IP_TRANSPARENT) isn't missed.
func (l *look) putLocal() error {
	k := l.kind
	if k.devices == nil {
		var err error
		if k.devices, err = addresses(); err != nil {
			return err
		}
	}
	ip := l.at.ip.Unmap()
	name, here := k.devices[ip]
	switch {
	case !here:
		return l.noteForeign()
	case name == "":
		return nil
	}
	k.devices[ip] = ""
	return l.env.Images.Put(extra.Addresses, &extra.LocalAddress{Address: ip.AsSlice(), Interface: &name}, nil)
}

// addresses returns the interfaces of this machine's addresses.
func addresses() (map[netip.Addr]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	out := map[netip.Addr]string{}
	for _, i := range all {
		at, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", i.Name, err)
		}
		for _, a := range at {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out[p.Addr()] = i.Name
			}
		}
	}
	return out, nil
}

// readLocal reads what putLocal wrote.
func (k *Kind) readLocal(src plan.Source) error {
	k.local = map[netip.Addr]string{}
	more, err := src.Entries(extra.Addresses)
	for _, m := range more {
		e := m.Message.(*extra.LocalAddress)
		ip, ok := netip.AddrFromSlice(e.GetAddress())
		if !ok {
			return fmt.Errorf("%s: an address of %d bytes can't be", extra.Addresses.Pattern, len(e.GetAddress()))
		}
		k.local[ip] = e.GetInterface()
	}
	return err
}

// Check implements plan.Checked: a connection needs its address and a route,
// and Multipath TCP a kernel that has it.
func (n *node) Check(env *plan.CheckEnv) error {
	if err := n.checkPrograms(); err != nil {
		return fmt.Errorf("file %#x, %v: %w", n.id, n, err)
	}
	if err := n.unseen.awaitLabels(env); err != nil {
		return fmt.Errorf("file %#x, %v: %w", n.id, n, err)
	}
	if n.protocol == unix.IPPROTO_MPTCP {
		return n.checkMultipath()
	}
	if !n.live() {
		if err := n.checkInbox(); err != nil {
			return err
		}
		return n.checkWaiting()
	}
	if err := n.checkPath(); err != nil {
		return err
	}
	return n.checkOver(env.Log)
}

// checkPath makes sure that the address and a route are there.
func (n *node) checkPath() error {
	k := n.kind
	if k.reach == nil {
		k.reach = map[path]error{}
	}
	w := way{n.opts, n.unseen, n.at.ip, n.peer.ip, n.entry.ifname}
	if w == k.ways[0] || w == k.ways[1] {
		return nil
	}
	// Ports have no part in it.
	p := path{n.at.ip, n.peer.ip, n.opts.Entry.GetSoBoundDev(), n.entry.ifname, uint32(n.number("SO_MARK")), n.abroad()}
	err, known := k.reach[p]
	if !known {
		err = n.probe()
		k.reach[p] = err
	}
	if err != nil {
		return fmt.Errorf("file %#x, %v: %w", n.id, n, err)
	}
	k.ways = [2]way{k.ways[1], w}
	return nil
}

// way is the same for many connections, both ends of which are in the tree, and decides
// what path they have.
type way struct {
	opts     *socket.Saved
	unseen   *unseen
	at, peer netip.Addr
	name     string
}

// checkMultipath makes sure that this kernel has Multipath TCP.
func (n *node) checkMultipath() error {
	num, err := n.like()
	if err != nil {
		return fmt.Errorf("file %#x, %v: this kernel has no Multipath TCP (is the sysctl net.mptcp.enabled 1?): %w", n.id, n, err)
	}
	return unix.Close(num)
}

// path is what decides whether a peer can be reached.
type path struct {
	at, peer     netip.Addr
	device, name string // that it belongs to, of its link-local address
	mark         uint32
	abroad       bool // any address will do
}

// probe finds out whether a connection can be made again, by a UDP socket that
// is given both addresses and sends nothing.
func (n *node) probe() error {
	num, err := unix.Socket(n.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket to look for addresses with: %w", err)
	}
	defer unix.Close(num)
	for _, opt := range []int{unix.IP_FREEBIND, unix.IP_TRANSPARENT} {
		name := map[int]string{unix.IP_FREEBIND: "IP_FREEBIND", unix.IP_TRANSPARENT: "IP_TRANSPARENT"}[opt]
		if n.number(name)|n.number("IPV6_"+name[3:]) == 0 && !n.unseen.entry.GetForeign() {
			continue
		}
		if err := unix.SetsockoptInt(num, unix.IPPROTO_IP, opt, 1); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := socket.Attach(num, n.opts.Entry); err != nil {
		return err
	}
	if mark := n.number("SO_MARK"); mark != 0 {
		if err := unix.SetsockoptInt(num, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
			return fmt.Errorf("set SO_MARK: %w", err)
		}
	}
	return n.tryPath(num)
}

func (n *node) tryPath(num int) error {
	zone, err := n.zone()
	if err != nil {
		return err
	}
	err = unix.Bind(num, address{ip: n.at.ip}.sockaddr(n.family, zone))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("this machine doesn't have its address %v%s; add it, or restore where it is: %w", n.at.ip, n.on(), err)
	}
	if err != nil {
		return fmt.Errorf("bind to %v: %w", n.at.ip, err)
	}
	if err := unix.Connect(num, n.peer.sockaddr(n.family, zone)); err != nil {
		return fmt.Errorf("there is no route from %v%s to its peer %v; add one: %w", n.at.ip, n.on(), n.peer.ip, err)
	}
	return nil
}

// on says which interface the local address was on.
func (n *node) on() string {
	if name := n.kind.local[n.at.ip.Unmap()]; name != "" {
		return fmt.Sprintf(" (it was on %s)", name)
	}
	return ""
}
