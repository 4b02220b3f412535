package inet

import (
	"slices"

	"golang.org/x/sys/unix"

	sk_inet "glis.dev/glis/image/criu/sk-inet"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
)

// Options of include/uapi/linux/{in6,udp}.h and asm-generic/socket.h that
// x/sys/unix has no name for.
const (
	ipv6Flowinfo     = 11 // IPV6_FLOWINFO
	ipv6FlowinfoSend = 33 // IPV6_FLOWINFO_SEND
	soZerocopy       = 60 // SO_ZEROCOPY
	soReserveMem     = 73 // SO_RESERVE_MEM, Linux 5.17
)

// table is the options of a sort of sockets, in the order in which they are
// set: IP_TOS changes SO_PRIORITY, so it comes before it.
func table(s sort) socket.Table {
	t := ip()
	if s.family == unix.AF_INET6 {
		t = append(ip6(), inner(t)...)
	}
	switch {
	case s.bare != 0:
		return append(append(append(t, bareOptions(s)...), socket.Common()...), socket.Ends()...)
	case s.connected:
		t = append(t, tcp.ConnectionOptions()...)
	case s.tcpLike():
		t = append(t, tcp.Options()...)
	}
	t = append(t, socket.Common()...)
	if s.tcpLike() {
		t = slices.DeleteFunc(t, func(o socket.Option) bool { return s.tells(o.Name) })
	}
	const sol = unix.SOL_SOCKET
	t = append(t,
		socket.Option{Name: "SO_ZEROCOPY", Level: sol, Opt: soZerocopy, Size: 4, When: socket.Late, Ask: s.lite()},
		// It is accounted for in cgroups that limit memory, and else can't be set.
		socket.Option{Name: "SO_RESERVE_MEM", Level: sol, Opt: soReserveMem, Size: 4, When: socket.Last, Ask: true},
	)
	switch {
	case s.lite():
		t = append(t, append(udp(), udplite()...)...)
	case s.datagrams():
		t = append(t, udp()...)
	default:
		t = append(t, tcp.Clamp())
	}
	if s.protocol == unix.IPPROTO_MPTCP {
		for i := range t {
			t[i].Ask = t[i].Ask || t[i].Opt == unix.SO_BUF_LOCK && t[i].Level == sol
		}
	}
	return append(t, socket.Ends()...)
}

// Tables are the options of all sorts of sockets of a family.
func Tables(family int) []socket.Table {
	return []socket.Table{
		Table(family, unix.SOCK_STREAM, unix.IPPROTO_TCP, false),
		Table(family, unix.SOCK_DGRAM, unix.IPPROTO_UDP, false),
		Table(family, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, false),
		Table(family, unix.SOCK_RAW, unix.IPPROTO_ICMP, false),
		Table(family, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, false),
	}
}

// Table is the options of one sort of sockets: of a TCP connection if it is connected.
func Table(family, typ, protocol int, connected bool) socket.Table {
	s := sort{family: family, protocol: protocol, connected: connected}
	if bare(typ, protocol) {
		s.bare = typ
	}
	return table(s)
}

// tells tells whether an option of a stream can't be set: of a connection, also of one that
// was disconnected since, it tells of the first or last packet.
func (s sort) tells(option string) bool {
	switch option {
	case "IP_MULTICAST_IF", "IP_MULTICAST_TTL", "IPV6_MULTICAST_IF", "IPV6_MULTICAST_HOPS":
		return true
	}
	return option == "SO_INCOMING_CPU" && s.connected
}

// inner is the rows of level IPPROTO_IP of an IPv6 socket, which also talks
// IPv4: criu's fields are those of its own family, and some options are one
// with their counterparts.
func inner(t socket.Table) socket.Table {
	var out socket.Table
	for _, o := range t {
		if o.Name != "IP_FREEBIND" && o.Name != "IP_TRANSPARENT" {
			o.Field = nil
			out = append(out, o)
		}
	}
	return out
}

func ip() socket.Table {
	row := func(name string, opt int) socket.Option {
		return socket.Option{Name: name, Level: unix.IPPROTO_IP, Opt: opt, Size: 4, When: socket.Early}
	}
	field := func(o socket.Option, f *socket.Field) socket.Option {
		o.Field = f
		return o
	}
	flag, number := socket.InetFlag, socket.InetNumber
	return socket.Table{
		field(row("IP_FREEBIND", unix.IP_FREEBIND), flag(false, func(e *sk_inet.InetSkEntry) **bool { return &e.IpOpts.Freebind })),
		{Name: "IP_TRANSPARENT", Level: unix.IPPROTO_IP, Opt: unix.IP_TRANSPARENT, Size: 4, When: socket.Early, Cap: unix.CAP_NET_ADMIN},
		row("IP_BIND_ADDRESS_NO_PORT", unix.IP_BIND_ADDRESS_NO_PORT),
		row("IP_LOCAL_PORT_RANGE", unix.IP_LOCAL_PORT_RANGE),
		field(row("IP_TOS", unix.IP_TOS), number(func(e *sk_inet.InetSkEntry) **uint32 { return &e.IpOpts.Tos })),
		field(row("IP_TTL", unix.IP_TTL), number(func(e *sk_inet.InetSkEntry) **uint32 { return &e.IpOpts.Ttl })),
		field(row("IP_PKTINFO", unix.IP_PKTINFO), flag(false, func(e *sk_inet.InetSkEntry) **bool { return &e.IpOpts.Pktinfo })),
		row("IP_RECVOPTS", unix.IP_RECVOPTS),
		row("IP_RETOPTS", unix.IP_RETOPTS),
		row("IP_MTU_DISCOVER", unix.IP_MTU_DISCOVER),
		row("IP_RECVERR", unix.IP_RECVERR),
		row("IP_RECVERR_RFC4884", unix.IP_RECVERR_RFC4884),
		row("IP_RECVTTL", unix.IP_RECVTTL),
		row("IP_RECVTOS", unix.IP_RECVTOS),
		row("IP_PASSSEC", unix.IP_PASSSEC),
		row("IP_RECVORIGDSTADDR", unix.IP_RECVORIGDSTADDR),
		row("IP_MINTTL", unix.IP_MINTTL),
		row("IP_CHECKSUM", unix.IP_CHECKSUM),
		{Name: "IP_RECVFRAGSIZE", Level: unix.IPPROTO_IP, Opt: unix.IP_RECVFRAGSIZE, Size: 4, When: socket.Early, Ask: true},
		row("IP_MULTICAST_IF", unix.IP_MULTICAST_IF),
		row("IP_MULTICAST_TTL", unix.IP_MULTICAST_TTL),
		row("IP_MULTICAST_LOOP", unix.IP_MULTICAST_LOOP),
		row("IP_MULTICAST_ALL", unix.IP_MULTICAST_ALL),
		row("IP_UNICAST_IF", unix.IP_UNICAST_IF),
	}
}

func ip6() socket.Table {
	row := func(name string, opt int) socket.Option {
		return socket.Option{Name: name, Level: unix.IPPROTO_IPV6, Opt: opt, Size: 4, When: socket.Early}
	}
	field := func(o socket.Option, f *socket.Field) socket.Option {
		o.Field = f
		return o
	}
	flag := socket.InetFlag
	return socket.Table{
		field(row("IPV6_V6ONLY", unix.IPV6_V6ONLY), flag(true, func(e *sk_inet.InetSkEntry) **bool { return &e.V6Only })),
		field(row("IPV6_FREEBIND", unix.IPV6_FREEBIND), flag(false, func(e *sk_inet.InetSkEntry) **bool { return &e.IpOpts.Freebind })),
		{Name: "IPV6_TRANSPARENT", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_TRANSPARENT, Size: 4, When: socket.Early, Cap: unix.CAP_NET_ADMIN},
		field(row("IPV6_RECVPKTINFO", unix.IPV6_RECVPKTINFO), flag(false, func(e *sk_inet.InetSkEntry) **bool { return &e.IpOpts.Pktinfo })),
		row("IPV6_2292PKTINFO", unix.IPV6_2292PKTINFO),
		row("IPV6_2292HOPOPTS", unix.IPV6_2292HOPOPTS),
		row("IPV6_2292DSTOPTS", unix.IPV6_2292DSTOPTS),
		row("IPV6_2292RTHDR", unix.IPV6_2292RTHDR),
		row("IPV6_2292HOPLIMIT", unix.IPV6_2292HOPLIMIT),
		row("IPV6_UNICAST_HOPS", unix.IPV6_UNICAST_HOPS),
		row("IPV6_MULTICAST_IF", unix.IPV6_MULTICAST_IF),
		row("IPV6_MULTICAST_HOPS", unix.IPV6_MULTICAST_HOPS),
		row("IPV6_MULTICAST_LOOP", unix.IPV6_MULTICAST_LOOP),
		row("IPV6_MULTICAST_ALL", unix.IPV6_MULTICAST_ALL),
		row("IPV6_MTU_DISCOVER", unix.IPV6_MTU_DISCOVER),
		row("IPV6_RECVERR", unix.IPV6_RECVERR),
		row("IPV6_RECVERR_RFC4884", unix.IPV6_RECVERR_RFC4884),
		row("IPV6_ROUTER_ALERT_ISOLATE", unix.IPV6_ROUTER_ALERT_ISOLATE),
		row("IPV6_FLOWINFO", ipv6Flowinfo),
		row("IPV6_FLOWINFO_SEND", ipv6FlowinfoSend),
		row("IPV6_RECVHOPLIMIT", unix.IPV6_RECVHOPLIMIT),
		row("IPV6_RECVHOPOPTS", unix.IPV6_RECVHOPOPTS),
		row("IPV6_RECVRTHDR", unix.IPV6_RECVRTHDR),
		row("IPV6_RECVDSTOPTS", unix.IPV6_RECVDSTOPTS),
		row("IPV6_RECVPATHMTU", unix.IPV6_RECVPATHMTU),
		row("IPV6_DONTFRAG", unix.IPV6_DONTFRAG),
		row("IPV6_RECVTCLASS", unix.IPV6_RECVTCLASS),
		row("IPV6_TCLASS", unix.IPV6_TCLASS),
		row("IPV6_AUTOFLOWLABEL", unix.IPV6_AUTOFLOWLABEL),
		row("IPV6_ADDR_PREFERENCES", unix.IPV6_ADDR_PREFERENCES),
		row("IPV6_MINHOPCOUNT", unix.IPV6_MINHOPCOUNT),
		row("IPV6_RECVORIGDSTADDR", unix.IPV6_ORIGDSTADDR),
		row("IPV6_UNICAST_IF", unix.IPV6_UNICAST_IF),
		row("IPV6_RECVFRAGSIZE", unix.IPV6_RECVFRAGSIZE),
	}
}

func udp() socket.Table {
	row := func(name string, opt int) socket.Option {
		return socket.Option{Name: name, Level: unix.IPPROTO_UDP, Opt: opt, Size: 4, When: socket.Late}
	}
	return socket.Table{
		row("UDP_CORK", unix.UDP_CORK),
		row("UDP_ENCAP", unix.UDP_ENCAP),
		row("UDP_NO_CHECK6_TX", unix.UDP_NO_CHECK6_TX),
		row("UDP_NO_CHECK6_RX", unix.UDP_NO_CHECK6_RX),
		row("UDP_SEGMENT", unix.UDP_SEGMENT),
		row("UDP_GRO", unix.UDP_GRO),
	}
}

// Options of include/uapi/linux/{icmp,icmpv6}.h that x/sys/unix has no name for.
const (
	solRaw      = 255
	icmpFilter  = 1 // ICMP_FILTER
	icmp6Filter = 1 // ICMPV6_FILTER
)

// bareOptions are those that only raw sockets have. A filter comes first, since
// they get packets at once.
func bareOptions(s sort) socket.Table {
	if s.bare != unix.SOCK_RAW {
		return nil
	}
	if s.family == unix.AF_INET6 {
		return socket.Table{
			{Name: "IPV6_HDRINCL", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_HDRINCL, Size: 4, When: socket.Early, Field: rawFlag(func(e *sk_inet.IpOptsRawEntry) **bool { return &e.Hdrincl })},
			checksumAt(s.protocol),
		}
	}
	t := socket.Table{
		{Name: "IP_HDRINCL", Level: unix.IPPROTO_IP, Opt: unix.IP_HDRINCL, Size: 4, When: socket.Early, Field: rawFlag(func(e *sk_inet.IpOptsRawEntry) **bool { return &e.Hdrincl })},
		{Name: "IP_NODEFRAG", Level: unix.IPPROTO_IP, Opt: ipNodefrag, Size: 4, When: socket.Early, Field: rawFlag(func(e *sk_inet.IpOptsRawEntry) **bool { return &e.Nodefrag })},
	}
	// Some kernels don't tell it; see alerted.
	t = append(t, socket.Option{Name: "IP_ROUTER_ALERT", Level: unix.IPPROTO_IP, Opt: unix.IP_ROUTER_ALERT, Size: 4, When: socket.Early})
	if s.protocol == unix.IPPROTO_ICMP {
		t = append(t, socket.Option{Name: "ICMP_FILTER", Level: solRaw, Opt: icmpFilter, Size: 4, When: socket.Early, Field: &filterField})
	}
	return t
}

// checksumAt is where the checksum is; of ICMPv6 it can be set at another level only.
func checksumAt(protocol int) socket.Option {
	o := socket.Option{Name: "IPV6_CHECKSUM", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_CHECKSUM, Size: 4, When: socket.Early}
	if protocol == unix.IPPROTO_ICMPV6 {
		o.Level = solRaw
	}
	return o
}

const ipNodefrag = 22 // IP_NODEFRAG

// rawOf returns the part of an entry that is about raw sockets, and makes it.
func rawOf(e *socket.Entries) *sk_inet.IpOptsRawEntry {
	if e.Inet.IpOpts.Raw == nil {
		e.Inet.IpOpts.Raw = &sk_inet.IpOptsRawEntry{}
	}
	return e.Inet.IpOpts.Raw
}

// rawFlag is a field that tells that an option of raw sockets is on.
func rawFlag(at func(*sk_inet.IpOptsRawEntry) **bool) *socket.Field {
	return &socket.Field{
		Put: func(e *socket.Entries, v socket.Value) {
			on := v.Lo != 0
			*at(rawOf(e)) = &on
		},
		Get: func(e *socket.Entries) (socket.Value, bool) {
			if e.Inet.GetIpOpts().GetRaw() == nil || *at(e.Inet.IpOpts.Raw) == nil {
				return socket.Value{}, false
			}
			v := socket.Uint(0)
			if **at(e.Inet.IpOpts.Raw) {
				v.Lo = 1
			}
			return v, true
		},
	}
}

// filterField is the ICMP_FILTER, a bit for each type of messages.
var filterField = socket.Field{
	Put: func(e *socket.Entries, v socket.Value) { rawOf(e).IcmpvFilter = []uint32{uint32(v.Lo)} },
	Get: func(e *socket.Entries) (socket.Value, bool) {
		f := e.Inet.GetIpOpts().GetRaw().GetIcmpvFilter()
		if len(f) != 1 {
			return socket.Value{}, false
		}
		return socket.Uint(f[0]), true
	},
}
