package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
)

// unseenNames are the members of structures that tell what no option does.
func unseenNames() []string {
	return []string{
		"inet_sock", "inet_sock.pinet6", "inet_sock.mc_index", "inet_sock.mc_addr",
		"ipv6_pinfo", "ipv6_pinfo.sticky_pktinfo", "ipv6_pinfo.frag_size", "ipv6_pinfo.flow_label",
		"?sock.sk_userlocks", "?sock_common.skc_num", "?inet_connection_sock.icsk_bind_hash", "?inet_bind_bucket", "?inet_bind_bucket.fastreuseport", "sock.sk_socket", "socket", "socket.state",
		"tcp_sock", "tcp_sock.rx_opt", "tcp_options_received.user_mss",
	}
}

// longs are the options of no certain size: what goes with every packet.
func (s sort) longs() []socket.Long {
	const most4, most6 = 40, 2048
	all := []socket.Long{{Name: "IP_OPTIONS", Level: unix.IPPROTO_IP, Opt: unix.IP_OPTIONS, Most: most4}}
	if s.family == unix.AF_INET {
		return all
	}
	row := func(name string, opt int) socket.Long {
		return socket.Long{Name: name, Level: unix.IPPROTO_IPV6, Opt: opt, Most: most6}
	}
	// IPV6_RTHDRDSTOPTS only goes with a routing header.
	return append(all, row("IPV6_HOPOPTS", unix.IPV6_HOPOPTS), row("IPV6_RTHDR", unix.IPV6_RTHDR),
		row("IPV6_RTHDRDSTOPTS", unix.IPV6_RTHDRDSTOPTS), row("IPV6_DSTOPTS", unix.IPV6_DSTOPTS))
}

// readUnseen adds what options don't tell of a socket. Where the kernel's memory
// can't be read nothing does.
func (s sort) readUnseen(m *kmem.Reader, fd int, e *extra.SocketEntry) error {
	own, err := s.lookInside(m, fd, e)
	if err != nil {
		return err
	}
	return socket.ReadUnseen(own, m, e)
}

// lookInside reads what options don't tell of sockets of these families alone,
// and returns the structure that it was read from.
func (s sort) lookInside(m *kmem.Reader, fd int, e *extra.SocketEntry) (*kmem.Struct, error) {
	name := "inet_sock"
	if s.protocol == unix.IPPROTO_TCP && s.bare == 0 {
		name = "tcp_sock"
	}
	at, err := m.Sock(fd)
	if err != nil {
		return nil, err
	}
	own, err := m.Struct(name, at)
	if err != nil {
		return nil, err
	}
	if name == "tcp_sock" {
		n := own.In("tcp_sock.rx_opt").U16("tcp_options_received.user_mss")
		if n != 0 && (s.connected || n == freshSegment) {
			e.MaxSegment = proto.Uint32(uint32(n))
		}
	}
	if !s.tcpLike() { // else the interface that multicast goes to is that of its first packet
		if err := readMulticast(own, e); err != nil {
			return nil, err
		}
	}
	if s.family == unix.AF_INET {
		return own, nil
	}
	return own, readUnseen6(m, own, e)
}

// readMulticast finds out whether IP_MULTICAST_IF was told by number: the
// address alone leads to an interface, too.
func readMulticast(own *kmem.Struct, e *extra.SocketEntry) error {
	index := int(own.U32("inet_sock.mc_index"))
	if index == 0 {
		return nil
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return fmt.Errorf("IP_MULTICAST_IF is interface %d: %w", index, err)
	}
	ip := net.IP(own.Raw("inet_sock.mc_addr", 4))
	all, err := i.Addrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return nil
		}
	}
	e.MulticastInterface = &i.Name
	return err
}

func readUnseen6(m *kmem.Reader, own *kmem.Struct, e *extra.SocketEntry) error {
	six, err := m.Struct("ipv6_pinfo", own.Pointer("inet_sock.pinet6"))
	if err != nil {
		return err
	}
	if err := readLabels(m, own, six, e); err != nil {
		return err
	}
	if n := six.U32("ipv6_pinfo.frag_size"); n != 0 {
		e.PacketSize = proto.Uint32(n)
	}
	if n := binary.BigEndian.Uint32(six.Raw("ipv6_pinfo.flow_label", 4)); n != 0 {
		e.FlowInfo = &n
	}
	const size = 20 // struct in6_pktinfo: address, interface
	info := six.Raw("ipv6_pinfo.sticky_pktinfo", size)
	index := binary.NativeEndian.Uint32(info[16:])
	if [size]byte(info) == [size]byte{} {
		return nil
	}
	e.PacketInfo = &extra.PacketInfo{Address: info[:16]}
	if index == 0 {
		return nil
	}
	i, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return fmt.Errorf("IPV6_PKTINFO is of interface %d: %w", index, err)
	}
	e.PacketInfo.Interface = &i.Name
	return nil
}

// checkUnseen looks for what options don't tell of.
func (l *look) checkUnseen() error {
	l.more = &extra.SocketEntry{}
	if l.alike() { // nothing is, but what it has from its own peer
		return l.readLent()
	}
	var err error
	if l.more.Long, err = socket.ReadLong(l.fd.Int(), l.longs()); err == nil {
		err = l.readReflects(l.fd.Int(), l.more)
	}
	if err != nil {
		return l.fail(err)
	}
	m, err := l.kind.memory()
	if errors.Is(err, kmem.ErrUnavailable) {
		if l.opts.EBPF {
			return l.refuse(socket.WhyNoEBPF)
		}
		return nil
	}
	if err == nil {
		l.inside, err = l.lookInside(m, l.fd.Int(), l.more)
	}
	if err == nil {
		err = socket.ReadUnseen(l.inside, m, l.more)
	}
	if err == nil {
		err = l.readAutobound(m)
	}
	if err == nil {
		err = l.readOpen(m)
	}
	if err == nil && l.lite() {
		err = l.readCoverage(m)
	}
	if err == nil {
		err = l.kind.tellLabels(l.env, l.more)
	}
	if errors.Is(err, errLabels) {
		return l.refuse("%v", err)
	}
	if err == nil && l.datagrams() && l.peer.set() {
		if o := l.loneOf(); o != nil {
			lend(o.locks, l.more)
		} else {
			err = readLent(m, l.fd.Int(), l.more)
		}
	}
	if err != nil {
		return l.fail(err)
	}
	return socket.Keep(l.env, l.file, l.more.Filter)
}

// unusual tells whether options don't tell all.
func unusual(e *extra.SocketEntry) bool {
	return rare(e) || e.LentAddress != nil || e.LentPort != nil || e.PortOpen != nil
}

// rare is unusual but for what each socket is asked for, see readLent.
func rare(e *extra.SocketEntry) bool {
	return e.BusyPollBudget != nil || e.MulticastInterface != nil || e.PacketInfo != nil || e.MaxSegment != nil || e.PacketSize != nil || e.Policies != nil || e.Long != nil || e.Filter != nil || e.ReusePort != nil || e.FullCoverage != nil || e.Foreign != nil || e.FlowInfo != nil || e.Labels != nil || e.Reflects != nil || e.ShutBefore != nil
}

// unseen is what options don't tell of a socket in a restore.
type unseen struct {
	sort
	entry *extra.SocketEntry
	info  netip.Addr

	// The socket that others have leased labels for, until it is taken, and whether it was.
	ready  *fd.FD
	leased bool
}

// planUnseen checks it. Sockets that have none of it, as most, have one in common.
func (k *Kind) planUnseen(s sort, e *extra.SocketEntry) (*unseen, error) {
	if e == nil || !unusual(e) {
		if k.usual[s] == nil {
			k.usual[s] = &unseen{sort: s}
		}
		return k.usual[s], nil
	}
	kept := *e // e is to be used again
	e = &kept
	u := &unseen{sort: s, entry: e}
	if err := errors.Join(socket.CheckUnseen(e), socket.CheckLong(s.longs(), e.GetLong()), s.checkCoverage(e), s.checkLabels(e)); err != nil {
		return nil, err
	}
	if tcp := s.protocol == unix.IPPROTO_TCP && s.bare == 0 && (!s.connected || e.GetEnded()); !s.datagrams() && (e.GetLentAddress() || e.GetLentPort() && !tcp) || e.GetPortFree() && !tcp {
		return nil, errors.New("an address or port that it got from connect(2), or a port that it gave up, can't be")
	}
	if e.GetMaxSegment() > math.MaxUint16 {
		return nil, fmt.Errorf("TCP_MAXSEG of %d can't be", e.GetMaxSegment())
	}
	if n := e.GetPacketSize(); n != 0 && (n < leastPacket6 || n > math.MaxInt32 || s.family != unix.AF_INET6) {
		return nil, fmt.Errorf("IPV6_MTU of %d can't be", n)
	}
	if n := e.GetFlowInfo(); n > mostFlowInfo || n != 0 && s.family != unix.AF_INET6 {
		return nil, fmt.Errorf("a flow label of %#x can't be", n)
	}
	if info := e.GetPacketInfo(); info != nil {
		var ok bool
		if u.info, ok = netip.AddrFromSlice(info.GetAddress()); !ok || !u.info.Is6() || s.family != unix.AF_INET6 {
			return nil, fmt.Errorf("IPV6_PKTINFO of %d bytes can't be", len(info.GetAddress()))
		}
		u.info = k.moveIP(u.info)
	}
	return u, nil
}

// leastPacket6 is the least size, in bytes, of a packet that every way of IPv6 takes
// whole, IPV6_MIN_MTU of linux/ipv6.h.
const leastPacket6 = 1280

// set sets what the way of packets depends on, before there are any.
func (u *unseen) set(own int) error {
	if err := socket.SetLong(own, u.entry.GetLong()); err != nil {
		return err
	}
	if err := errors.Join(u.setMulticast(own), u.setCoverage(own), u.setLabels(own)); err != nil {
		return err
	}
	if !u.connected {
		if err := u.setSegment(own); err != nil {
			return err
		}
	}
	if n := u.entry.GetPacketSize(); n != 0 {
		if err := unix.SetsockoptInt(own, unix.IPPROTO_IPV6, unix.IPV6_MTU, int(n)); err != nil {
			return fmt.Errorf("set IPV6_MTU to %d: %w", n, err)
		}
	}
	info := u.entry.GetPacketInfo()
	if info == nil {
		return nil
	}
	index, err := indexOf(info.GetInterface())
	if err == nil {
		err = unix.SetsockoptString(own, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, string(binary.NativeEndian.AppendUint32(u.info.AsSlice(), uint32(index))))
	}
	if err != nil {
		return fmt.Errorf("set IPV6_PKTINFO to %v, interface %q: %w", u.info, info.GetInterface(), err)
	}
	return nil
}

// setMulticast sets IP_MULTICAST_IF by an interface; its address was set.
func (u *unseen) setMulticast(own int) error {
	name := u.entry.GetMulticastInterface()
	if name == "" {
		return nil
	}
	index, err := indexOf(name)
	if err == nil {
		var ip [4]byte
		if ip, err = unix.GetsockoptInet4Addr(own, unix.IPPROTO_IP, unix.IP_MULTICAST_IF); err == nil {
			err = unix.SetsockoptIPMreqn(own, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Address: ip, Ifindex: int32(index)})
		}
	}
	if err != nil {
		return fmt.Errorf("set IP_MULTICAST_IF to interface %q: %w", name, err)
	}
	return nil
}

// finish sets what comes last. IP_OPTIONS were taken away to have the size of
// segments worked out anew.
func (u *unseen) finish(own int) error {
	if u.connected {
		if err := socket.SetLong(own, u.entry.GetLong()); err != nil {
			return err
		}
	}
	return errors.Join(u.setSegment(own), socket.SetUnseen(own, u.entry))
}

// setSegment sets TCP_MAXSEG where the option doesn't tell whether it was set.
func (u *unseen) setSegment(own int) error {
	if n := u.entry.GetMaxSegment(); n != 0 {
		if err := unix.SetsockoptInt(own, unix.IPPROTO_TCP, unix.TCP_MAXSEG, int(n)); err != nil {
			return fmt.Errorf("set TCP_MAXSEG to %d: %w", n, err)
		}
	}
	return nil
}

// indexOf returns the number of an interface, 0 for "".
func indexOf(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return i.Index, nil
}
