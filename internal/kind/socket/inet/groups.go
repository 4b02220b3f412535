package inet

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// groupNames are the members of structures that tell of multicast groups.
func groupNames() []string {
	return []string{
		"inet_sock.mc_list", "ip_mc_socklist", "ip_mc_socklist.next_rcu", "ip_mc_socklist.multi", "ip_mc_socklist.sfmode", "ip_mc_socklist.sflist",
		"ip_sf_socklist", "ip_sf_socklist.sl_max", "ip_sf_socklist.sl_count", "ip_sf_socklist.sl_addr",
		"inet_sock.pinet6", "ipv6_pinfo.ipv6_mc_list",
		"ipv6_mc_socklist", "ipv6_mc_socklist.next", "ipv6_mc_socklist.addr", "ipv6_mc_socklist.ifindex", "ipv6_mc_socklist.sfmode", "ipv6_mc_socklist.sflist",
		"ip6_sf_socklist", "ip6_sf_socklist.sl_max", "ip6_sf_socklist.sl_count", "ip6_sf_socklist.sl_addr",
		"ipv6_pinfo.ipv6_ac_list", "ipv6_ac_socklist", "ipv6_ac_socklist.acl_addr", "ipv6_ac_socklist.acl_ifindex", "ipv6_ac_socklist.acl_next",
	}
}

// mostGroups is more than a socket is allowed to be in by memory that the
// kernel gives it, and more sources than a group may have.
const mostGroups = 1 << 16

// checkGroups finds the groups that the socket is in, and refuses what is
// attached to it besides.
func (l *look) checkGroups() error {
	m, err := l.kind.memory()
	if err != nil {
		return l.refuse("it is a member of a multicast group, or extension headers go with every packet, and which can't be known (%v); let the process leave its groups first", err)
	}
	r := groupReader{mem: m}
	if err := r.read(l.fd.Int(), l.family); err != nil {
		return l.fail(err)
	}
	hidden, err := l.hidden(r.bytes)
	if err != nil {
		return l.fail(err)
	}
	if hidden {
		return l.refuse("extension headers that can't be known go with every packet, or none that were given to it by IPV6_2292PKTOPTIONS; let the process take them off (IPV6_HOPOPTS without a value)")
	}
	l.groups = r.out
	return nil
}

// groupReader reads the groups of a socket, and how much memory they take.
type groupReader struct {
	mem   *kmem.Reader
	out   []*extra.Membership
	bytes uint32
}

func (r *groupReader) read(fd, family int) error {
	sk, err := r.mem.Sock(fd)
	if err != nil {
		return err
	}
	return r.readAt(sk, family)
}

// readAt is read for a socket that the kernel has at an address.
func (r *groupReader) readAt(sk kmem.Addr, family int) error {
	if err := r.read4(sk + r.mem.Off("inet_sock.mc_list")); err != nil || family == unix.AF_INET {
		return err
	}
	own, err := r.mem.Pointer(sk + r.mem.Off("inet_sock.pinet6"))
	if err != nil {
		return err
	}
	if err := r.read6(own + r.mem.Off("ipv6_pinfo.ipv6_mc_list")); err != nil {
		return err
	}
	return r.readAnycast(own + r.mem.Off("ipv6_pinfo.ipv6_ac_list"))
}

// readAnycast reads the anycast addresses of a socket (IPV6_JOIN_ANYCAST).
func (r *groupReader) readAnycast(list kmem.Addr) error {
	at, err := r.mem.Pointer(list)
	for err == nil && at != 0 && len(r.out) < mostGroups {
		var s *kmem.Struct
		if s, err = r.mem.Struct("ipv6_ac_socklist", at); err != nil {
			return err
		}
		is := true
		r.bytes += uint32(len(s.Bytes))
		err = r.add(&extra.Membership{Group: s.Raw("ipv6_ac_socklist.acl_addr", 16), Anycast: &is}, s.U32("ipv6_ac_socklist.acl_ifindex"), exclude, 0, "", 0)
		at = s.Pointer("ipv6_ac_socklist.acl_next")
	}
	return err
}

func (r *groupReader) read4(list kmem.Addr) error {
	at, err := r.mem.Pointer(list)
	for err == nil && at != 0 && len(r.out) < mostGroups {
		var s *kmem.Struct
		if s, err = r.mem.Struct("ip_mc_socklist", at); err != nil {
			return err
		}
		// struct ip_mreqn: group, local address, index of the interface.
		multi := s.Raw("ip_mc_socklist.multi", 12)
		g := &extra.Membership{Group: multi[:4], Local: multi[4:8]}
		r.bytes += uint32(len(s.Bytes))
		err = r.add(g, binary.NativeEndian.Uint32(multi[8:]), s.U32("ip_mc_socklist.sfmode"), s.Pointer("ip_mc_socklist.sflist"), "ip_sf_socklist", 4)
		at = s.Pointer("ip_mc_socklist.next_rcu")
	}
	return err
}

func (r *groupReader) read6(list kmem.Addr) error {
	at, err := r.mem.Pointer(list)
	for err == nil && at != 0 && len(r.out) < mostGroups {
		var s *kmem.Struct
		if s, err = r.mem.Struct("ipv6_mc_socklist", at); err != nil {
			return err
		}
		g := &extra.Membership{Group: s.Raw("ipv6_mc_socklist.addr", 16)}
		r.bytes += uint32(len(s.Bytes))
		err = r.add(g, s.U32("ipv6_mc_socklist.ifindex"), s.U32("ipv6_mc_socklist.sfmode"), s.Pointer("ipv6_mc_socklist.sflist"), "ip6_sf_socklist", 16)
		at = s.Pointer("ipv6_mc_socklist.next")
	}
	return err
}

// add adds a group with the sources of a list, which are size bytes each.
func (r *groupReader) add(g *extra.Membership, index, mode uint32, list kmem.Addr, typ string, size int) error {
	i, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return fmt.Errorf("a multicast group is on interface %d: %w", index, err)
	}
	only := mode == include
	g.Interface, g.Only = &i.Name, &only
	r.out = append(r.out, g)
	if list == 0 {
		return nil
	}
	s, err := r.mem.Struct(typ, list)
	if err != nil {
		return err
	}
	room, n := s.U32(typ+".sl_max"), int(s.U32(typ+".sl_count"))
	if room > mostGroups || n > int(room) {
		return fmt.Errorf("%w: a multicast group with %d of %d sources", kmem.ErrUnavailable, n, room)
	}
	r.bytes += uint32(r.mem.Off(typ+".sl_addr")) + room*uint32(size)
	all := make([]byte, n*size)
	if err := r.mem.ReadAt(all, list+r.mem.Off(typ+".sl_addr")); err != nil {
		return err
	}
	for one := range slices.Chunk(all, size) {
		g.Sources = append(g.Sources, one)
	}
	return nil
}

// Modes of a group's sources, MCAST_EXCLUDE and MCAST_INCLUDE of linux/in.h.
const (
	exclude = 0
	include = 1
)

// membership is a group to join.
type membership struct {
	group, local netip.Addr
	device       string
	only         bool
	anycast      bool
	sources      []netip.Addr
}

// planGroups takes the groups of a socket.
func (n *node) planGroups(x *extra.SocketEntry) error {
	all, err := n.kind.planGroups(n.sort, x)
	if len(all) > 0 {
		n.give(func(m *more) { m.groups = all })
	}
	return err
}

// planGroups checks the groups of a socket.
func (k *Kind) planGroups(s sort, x *extra.SocketEntry) ([]*membership, error) {
	var out []*membership
	for _, e := range x.GetGroups() {
		g := &membership{device: e.GetInterface(), only: e.GetOnly(), anycast: e.GetAnycast()}
		var ok bool
		if g.group, ok = netip.AddrFromSlice(e.GetGroup()); !ok || g.group.IsMulticast() == g.anycast || s.tcpLike() && !g.anycast || g.group.Is6() && s.family == unix.AF_INET || g.group.Is4() && g.anycast {
			return nil, fmt.Errorf("a multicast group of %d bytes can't be", len(e.GetGroup()))
		}
		g.local, _ = netip.AddrFromSlice(e.GetLocal())
		g.local = k.moveIP(g.local)
		if len(e.Sources) > mostGroups || g.group.Is4() && !g.local.Is4() {
			return nil, fmt.Errorf("group %v with %d sources can't be", g.group, len(e.Sources))
		}
		for _, b := range e.Sources {
			from, ok := netip.AddrFromSlice(b)
			if !ok || from.Is4() != g.group.Is4() {
				return nil, fmt.Errorf("a source of %d bytes of group %v can't be", len(b), g.group)
			}
			g.sources = append(g.sources, from)
		}
		out = append(out, g)
	}
	return out, nil
}

// join makes a socket a member.
func (g *membership) join(fd int) error {
	i, err := net.InterfaceByName(g.device)
	if err != nil {
		return fmt.Errorf("join %v on interface %q: %w", g.group, g.device, err)
	}
	level := unix.IPPROTO_IPV6
	if g.anycast {
		err = unix.SetsockoptIPv6Mreq(fd, level, unix.IPV6_JOIN_ANYCAST, &unix.IPv6Mreq{Multiaddr: g.group.As16(), Interface: uint32(i.Index)})
	} else if g.group.Is4() {
		level = unix.IPPROTO_IP
		err = unix.SetsockoptIPMreqn(fd, level, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: g.group.As4(), Address: g.local.As4(), Ifindex: int32(i.Index)})
	} else {
		err = unix.SetsockoptIPv6Mreq(fd, level, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: g.group.As16(), Interface: uint32(i.Index)})
	}
	if err == nil && (g.only || len(g.sources) > 0) {
		err = linux.Setsockopt(fd, level, unix.MCAST_MSFILTER, g.filter(i.Index))
	}
	if err != nil {
		return fmt.Errorf("join %v on interface %q: %w", g.group, g.device, err)
	}
	return nil
}

// filter is a struct group_filter, include/uapi/linux/in.h.
func (g *membership) filter(index int) []byte {
	ne := binary.NativeEndian
	mode := uint32(exclude)
	if g.only {
		mode = include
	}
	b := append(ne.AppendUint32(nil, uint32(index)), 0, 0, 0, 0)
	b = append(b, storage(g.group)...)
	b = ne.AppendUint32(ne.AppendUint32(b, mode), uint32(len(g.sources)))
	for _, s := range g.sources {
		b = append(b, storage(s)...)
	}
	return b
}

// storage is an address as a struct sockaddr_storage.
func storage(a netip.Addr) []byte {
	const size = 128
	b := make([]byte, size)
	binary.NativeEndian.PutUint16(b, unix.AF_INET)
	at := 4
	if a.Is6() {
		binary.NativeEndian.PutUint16(b, unix.AF_INET6)
		at = 8
	}
	copy(b[at:], a.AsSlice())
	return b
}
