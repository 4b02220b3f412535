package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/undo"
)

// Bare sockets have no ports: those of SOCK_RAW, and those of ping, which are
// SOCK_DGRAM of ICMP and have a number in the place of a port. See raw(7),
// icmp(7).
func bare(typ, protocol int) bool {
	return typ == unix.SOCK_RAW || typ == unix.SOCK_DGRAM && (protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6)
}

// errBare says that a socket is a bare one.
var errBare = errors.New("neither TCP nor UDP")

// bareLook is such a socket while it is looked at.
type bareLook struct {
	*socket.Plain
	sort
	kind     *Kind
	shutdown uint8
}

// dumpBare is Dump for bare sockets.
func (k *Kind) dumpBare(env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	l := &bareLook{sort: sort{family: int(f.Family)}, kind: k}
	p, err := socket.LookAt(env, f, k.shared(), func(typ, protocol int) (*socket.Kernel, error) {
		l.bare, l.protocol = typ, protocol
		return k.kernel(l.sort)
	})
	if err != nil {
		return nil, err
	}
	defer p.FD.Close()
	l.Plain = p
	for _, check := range []func() error{l.saveErrors, l.saveQueue, l.checkInside, l.checkHidden} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	e, err := l.entry()
	if err != nil {
		return nil, p.Fail(err)
	}
	return &fdinfo.FileEntry{Isk: e}, p.Put()
}

// checkInside looks for what options don't tell of.
func (l *bareLook) checkInside() (err error) {
	if l.More.Long, err = socket.ReadLong(l.FD.Int(), l.longs()); err != nil {
		return l.Fail(err)
	}
	m, err := l.kind.memory()
	if errors.Is(err, kmem.ErrUnavailable) {
		return nil
	}
	if err == nil {
		_, err = l.lookInside(m, l.FD.Int(), l.More)
	}
	if err == nil {
		err = l.kind.tellLabels(l.Env, l.More)
	}
	if errors.Is(err, errLabels) {
		return l.Refuse("%v", err)
	}
	if err == nil {
		err = l.readState(m)
	}
	return l.Fail(err)
}

// readState reads how the socket is shut down, and refuses one that forwards
// multicast.
func (l *bareLook) readState(m *kmem.Reader) error {
	l.shutdown = l.Sock.U8("sock.sk_shutdown") & shutBoth
	routes, err := isRouter(m, l.Sock)
	if err == nil && routes {
		return l.Refuse("it is a multicast router's (MRT_INIT), which isn't supported yet")
	}
	return err
}

// checkHidden finds the groups that the socket is in, and refuses what no
// option tells of.
func (l *bareLook) checkHidden() error {
	fd := l.FD.Int()
	if l.bare == unix.SOCK_RAW && !tellsAlert(fd, l.family) {
		gets, err := alerted(fd, l.family)
		if err != nil {
			return l.Fail(err)
		}
		if gets {
			return l.Refuse("it gets packets with a router alert (IP_ROUTER_ALERT), which isn't supported yet")
		}
	}
	mem, err := socket.MemInfo(fd, unix.SK_MEMINFO_OPTMEM)
	if err != nil {
		return l.Fail(err)
	}
	hidden := func(known uint32) (bool, error) {
		return l.Opts.Hidden(mem-min(mem, known), l.More, l.like)
	}
	is, err := hidden(0)
	if err != nil || !is {
		return l.Fail(err)
	}
	m, err := l.kind.memory()
	if err != nil {
		return l.Refuse("it is a member of a multicast group, and of which can't be known (%v); let the process leave its groups first", err)
	}
	r := groupReader{mem: m}
	if err := r.read(fd, l.family); err != nil {
		return l.Fail(err)
	}
	if is, err = hidden(r.bytes); err == nil && is {
		return l.Refuse("something is attached to it that this Glis doesn't know, or it was given no headers by IPV6_2292PKTOPTIONS; let the process take that off (IPV6_HOPOPTS without a value)")
	}
	l.More.Groups = r.out
	return l.Fail(err)
}

// tellsAlert tells whether the kernel tells of a socket's router alerts: then
// it is an option like others. Of IPv6 it does not.
func tellsAlert(fd, family int) bool {
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_ROUTER_ALERT)
	return family == unix.AF_INET && err == nil
}

// alerted tells whether a raw socket gets packets with a router alert. Nobody
// can ask for that; but who gets them can't be told to once more.
func alerted(fd, family int) (bool, error) {
	level, opt, off := unix.IPPROTO_IP, unix.IP_ROUTER_ALERT, 0
	if family == unix.AF_INET6 {
		if is, known, err := alertedByNone(fd); known || err != nil {
			return is, err
		}
		level, opt, off = unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT, -1
	}
	const number = 0xfffe // of an alert that nobody has
	err := unix.SetsockoptInt(fd, level, opt, number)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return true, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOPROTOOPT): // of its protocol none can
		return false, nil
	case err != nil:
		return false, fmt.Errorf("does it get packets with a router alert? IP_ROUTER_ALERT: %w", err)
	}
	if err := undo.Again(func() error { return unix.SetsockoptInt(fd, level, opt, off) }); err != nil {
		return false, fmt.Errorf("have it get no packets with a router alert again: %w", err)
	}
	return false, nil
}

// alertedByNone is alerted for IPv6 where the socket tells 0, if it does. What is told is only
// whether the number that was set last, or -1 to have none, was another than 0: a look by any
// other number would have it tell 1 for ever. So who tells 0 has none, and says so when it is
// to be taken off, or number 0, which can be given back. See ip6_ra_control() in
// net/ipv6/ipv6_sockglue.c.
func alertedByNone(fd int) (is, known bool, err error) {
	const level, opt, off = unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT, -1
	if v, err := unix.GetsockoptInt(fd, level, opt); err != nil || v != 0 {
		return false, false, nil //nolint:nilerr // some kernels don't tell it
	}
	switch err := unix.SetsockoptInt(fd, level, opt, off); {
	case err == nil:
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOPROTOOPT): // there is none, or can't be
		return false, true, nil
	default:
		return false, false, fmt.Errorf("does it get packets with a router alert? IPV6_ROUTER_ALERT: %w", err)
	}
	if err := undo.Again(func() error { return unix.SetsockoptInt(fd, level, opt, 0) }); err != nil {
		return true, true, fmt.Errorf("have it get packets with router alert 0 again: %w", err)
	}
	return true, true, nil
}

func (l *bareLook) entry() (*sk_inet.InetSkEntry, error) {
	p, s := l.Plain, l.sort
	ends, err := l.kind.bareEnds(p, s)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(l.checkGone(ends), l.checkForeign(ends.Local.Addr())); err != nil {
		return nil, err
	}
	number := func(n int) *uint32 { return proto.Uint32(uint32(n)) }
	at, peer := address{ends.Local.Addr(), ends.Local.Port()}, address{ends.Remote.Addr(), ends.Remote.Port()}
	e := &sk_inet.InetSkEntry{
		Id: &p.File.ID, Ino: number(int(p.File.Stat.Ino)), Family: number(s.family), Type: number(p.Type), Proto: number(p.Protocol),
		State: number(int(ends.State)), SrcPort: number(int(at.port)), DstPort: number(int(peer.port)), Flags: &p.File.Flags, Backlog: number(0),
		SrcAddr: at.words(s.family, new([4]uint32)), DstAddr: peer.words(s.family, new([4]uint32)), Fown: p.Owner, Opts: p.Opts.Entry,
		V6Only: p.Opts.Inet.V6Only, IpOpts: p.Opts.Inet.IpOpts, TcpOpts: p.Opts.Inet.TcpOpts,
	}
	if (linkLocal(at) || linkLocal(peer)) && s.family == unix.AF_INET6 {
		e.Ifname = p.Opts.Entry.SoBoundDev
	}
	if l.shutdown != 0 {
		e.Shutdown = sk_opts.SkShutdown(l.shutdown).Enum()
	}
	return e, readFilter6(p.FD.Int(), s, e)
}

func linkLocal(a address) bool { return a.ip.IsLinkLocalUnicast() || a.ip.IsLinkLocalMulticast() }

// bareEnds returns the addresses and the state of a socket. A socket of ping
// without a number is in no list.
func (k *Kind) bareEnds(p *socket.Plain, s sort) (proc.NetSocket, error) {
	name := s.listed()
	all, err := k.listOf(name)
	if err != nil {
		return proc.NetSocket{}, err
	}
	ends, ok := all[p.File.Stat.Ino]
	if !ok && s.bare == unix.SOCK_RAW {
		return ends, fmt.Errorf("/proc/net/%s doesn't have it", name)
	}
	if !ok {
		ends.State = closed
	}
	return ends, nil
}

// listOf returns a list of /proc/net by inode, as it was when it was first asked for.
func (k *Kind) listOf(name string) (map[uint64]proc.NetSocket, error) {
	if k.bare[name] != nil {
		return k.bare[name], nil
	}
	all, err := proc.NetSockets(name)
	if err != nil {
		return nil, err
	}
	k.bare[name] = map[uint64]proc.NetSocket{}
	for _, one := range all {
		k.bare[name][one.Inode] = one
	}
	return k.bare[name], nil
}

// listed is the list of /proc/net that has such sockets.
func (s sort) listed() string {
	name := "raw"
	if s.bare == unix.SOCK_DGRAM {
		name = "icmp"
	}
	if s.family == unix.AF_INET6 {
		name += "6"
	}
	return name
}

// shares tells whether another ping has the number of one.
func (k *Kind) shares(s sort, one proc.NetSocket) bool {
	for _, other := range k.bare[s.listed()] {
		if other.Inode != one.Inode && other.Local.Port() == one.Local.Port() {
			return true
		}
	}
	return false
}

// sizeFilter6 is the size of struct icmp6_filter, a bit for each type.
const sizeFilter6 = 32

// readFilter6 reads which types of messages a raw socket of ICMPv6 does not
// get: an option that is larger than others.
func readFilter6(fd int, s sort, e *sk_inet.InetSkEntry) error {
	if !s.filters6() {
		return nil
	}
	var buf [sizeFilter6]byte
	if _, err := linux.Getsockopt(fd, unix.IPPROTO_ICMPV6, icmp6Filter, buf[:]); err != nil {
		return fmt.Errorf("read ICMPV6_FILTER: %w", err)
	}
	if buf == [sizeFilter6]byte{} {
		return nil
	}
	// The entry may be shared with sockets that have the same options.
	opts := &sk_inet.IpOptsEntry{}
	*opts = *e.IpOpts
	raw := &sk_inet.IpOptsRawEntry{}
	if opts.Raw != nil {
		*raw = *opts.Raw
	}
	raw.IcmpvFilter = words(buf[:])
	opts.Raw, e.IpOpts = raw, opts
	return nil
}

// filters6 tells whether it has an ICMPV6_FILTER.
func (s sort) filters6() bool {
	return s.bare == unix.SOCK_RAW && s.family == unix.AF_INET6 && s.protocol == unix.IPPROTO_ICMPV6
}
