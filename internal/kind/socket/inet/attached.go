package inet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
)

// What is attached to a socket that only messages have, and is in memory of its own: its
// filter, what goes with every packet, groups, keys. The one that is dumped in its place is
// given all of that.

// attachedNames are the members of structures that tell of it, beside groups and keys.
func attachedNames() []string {
	return []string{
		"sock.sk_omem_alloc", "inet_sock.inet_opt", "ip_options_rcu.opt", "ip_options", "ip_options.optlen", "ip_options.srr", "ip_options.rr", "ip_options.ts", "ip_options.__data",
		"ip_options.faddr", "ip_options.router_alert",
		"ipv6_pinfo.opt", "ipv6_txoptions", "ipv6_txoptions.hopopt", "ipv6_txoptions.dst0opt", "ipv6_txoptions.srcrt", "ipv6_txoptions.dst1opt",
	}
}

// attached is all of it, as images have it.
type attached struct {
	filter *extra.SocketProgram
	long   []*extra.SocketOption
	groups []*extra.Membership
	keys   []*extra.SocketKey
	memory uint32 // that the kernel counts for it, but for groups, in bytes
}

// attachedAt reads what is attached to a socket.
func (k *Kind) attachedAt(s sort, sk kmem.Addr) (*attached, error) {
	m, err := k.memory()
	if err != nil {
		return nil, err
	}
	a := &attached{}
	if a.memory, err = word(m, sk+m.Off("sock.sk_omem_alloc")); err != nil {
		return nil, err
	}
	if a.filter, err = socket.FilterAt(m, sk); err != nil {
		return nil, err
	}
	if err := a.readLong(s, m, sk); err != nil || a.memory == 0 {
		return a, err
	}
	if s.datagrams() {
		r := groupReader{mem: m}
		err = r.readAt(sk, s.family)
		a.groups = r.out
		a.memory -= min(a.memory, r.bytes) // there may be room for more sources
		return a, err
	}
	if m.Has("tcp_sock.md5sig_info") && m.Has("tcp_md5sig_key") {
		a.keys, _, err = keysAt(m, sk)
	}
	return a, err
}

func word(m *kmem.Reader, at kmem.Addr) (uint32, error) {
	var b [4]byte
	err := m.ReadAt(b[:], at)
	return binary.NativeEndian.Uint32(b[:]), err
}

// readLong reads what goes with every packet.
func (a *attached) readLong(s sort, m *kmem.Reader, sk kmem.Addr) error {
	at, err := m.Pointer(sk + m.Off("inet_sock.inet_opt"))
	if err != nil {
		return err
	}
	if at != 0 {
		if err := a.readIPOptions(m, at+m.Off("ip_options_rcu.opt")); err != nil {
			return err
		}
	}
	if s.family == unix.AF_INET {
		return nil
	}
	if at, err = m.Pointer(sk + m.Off("inet_sock.pinet6")); err == nil {
		at, err = m.Pointer(at + m.Off("ipv6_pinfo.opt"))
	}
	if err != nil || at == 0 {
		return err
	}
	return a.readHeaders(m, at)
}

// readIPOptions reads a struct ip_options.
func (a *attached) readIPOptions(m *kmem.Reader, at kmem.Addr) error {
	s, err := m.Struct("ip_options", at)
	if err != nil {
		return err
	}
	n := s.U8("ip_options.optlen")
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	if err := m.ReadAt(b, at+m.Off("ip_options.__data")); err != nil {
		return err
	}
	if s.U8("ip_options.srr")|s.U8("ip_options.rr")|s.U8("ip_options.ts") != 0 {
		if m.Off("ip_options.router_alert") != m.Off("ip_options.ts")+2 {
			return noLone("a socket with IP options (IP_OPTIONS) that record a route or times, or lead packets elsewhere, of which this kernel keeps another account")
		}
		if !asSet(s, b) {
			return noLone("a socket whose IP options (IP_OPTIONS) can't be")
		}
	}
	a.add(unix.IPPROTO_IP, unix.IP_OPTIONS, b)
	return nil
}

// What a struct ip_options notes of those that packets write to: bits behind the places.
const (
	recordsHop   = 1 << 3 // rr_needaddr
	stampsTime   = 1 << 4 // ts_needtime
	stampsHop    = 1 << 5 // ts_needaddr
	prescribed   = 3      // IPOPT_TS_PRESPEC: stamps of hosts that are named
	headerLength = 20     // of IP: places are counted from there
	addressBytes = 4
)

// asSet makes IP options what was set of what the kernel has made of them: it leads packets
// to the first address of a route, and puts its own address, and the time, in front of what
// others add. It tells whether that can be.
func asSet(s *kmem.Struct, b []byte) bool {
	at := func(place string) []byte { // an option and all behind, of which it has a part
		if n := int(s.U8("ip_options." + place)); n >= headerLength && n-headerLength+3 <= len(b) {
			if o := b[n-headerLength:]; int(o[1]) <= len(o) {
				return o[:max(int(o[1]), 3)]
			}
		}
		return nil
	}
	back := func(o []byte, clear bool) bool { // takes away what was added last
		next := int(o[2]) - addressBytes
		if o[2] = byte(next); next < 4 || next-1+addressBytes > len(o) {
			return false
		}
		if clear {
			copy(o[next-1:], make([]byte, addressBytes))
		}
		return true
	}
	ok, notes := true, s.Raw("ip_options.ts", 2)[1]
	if s.U8("ip_options.srr") != 0 {
		o := at("srr")
		if ok = len(o) >= 3+addressBytes; ok {
			copy(o[3+addressBytes:], bytes.Clone(o[3:]))
			copy(o[3:], s.Raw("ip_options.faddr", addressBytes))
		}
	}
	if s.U8("ip_options.rr") != 0 && notes&recordsHop != 0 {
		o := at("rr")
		ok = ok && o != nil && back(o, true)
	}
	if o := at("ts"); s.U8("ip_options.ts") != 0 {
		if ok = ok && len(o) > 3; ok && notes&stampsTime != 0 {
			ok = back(o, true) && (o[3]&0xf != prescribed || back(o, false))
		}
		if ok && notes&stampsHop != 0 {
			ok = back(o, true)
		}
	}
	return ok
}

func (a *attached) add(level, name uint32, value []byte) {
	a.long = append(a.long, &extra.SocketOption{Level: proto.Uint32(level), Name: proto.Uint32(name), Value: value})
}

// readHeaders reads the extension headers of a struct ipv6_txoptions. The second goes with
// a routing header only.
func (a *attached) readHeaders(m *kmem.Reader, at kmem.Addr) error {
	s, err := m.Struct("ipv6_txoptions", at)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		member string
		option uint32
	}{{"hopopt", unix.IPV6_HOPOPTS}, {"srcrt", unix.IPV6_RTHDR}, {"dst0opt", unix.IPV6_RTHDRDSTOPTS}, {"dst1opt", unix.IPV6_DSTOPTS}} {
		header := s.Pointer("ipv6_txoptions." + x.member)
		if header == 0 {
			continue
		}
		var begin [2]byte // of struct ipv6_opt_hdr: what follows, and how many times 8 bytes there are beyond the first
		if err := m.ReadAt(begin[:], header); err != nil {
			return err
		}
		b := make([]byte, (int(begin[1])+1)*8)
		if err := m.ReadAt(b, header); err != nil {
			return err
		}
		a.add(unix.IPPROTO_IPV6, x.option, b)
	}
	return nil
}

// begin attaches to a new socket what its options are found with: keys change what it leaves
// to the device. There may be nothing, nil.
func (a *attached) begin(s sort, own int) error {
	if a == nil {
		return nil
	}
	keys, err := s.secrets(a.keys)
	for _, k := range keys {
		err = errors.Join(err, k.set(own, s.family))
	}
	return errors.Join(err, socket.AttachSame(own, a.filter), socket.SetLong(own, a.long))
}

// pretend has the memory of a socket tell of the other one's: begin has attached them, and
// whether all is alike is seen at the end.
func (a *attached) pretend(m *kmem.Reader, is, other []byte) {
	if a == nil {
		return
	}
	take := func(name string, size int) {
		at := int(m.Off(name))
		copy(is[at:at+size], other[at:])
	}
	take("sock.sk_omem_alloc", 4)
	if a.filter != nil {
		take("sock.sk_filter", 8)
	}
	if slices.ContainsFunc(a.long, func(o *extra.SocketOption) bool { return o.GetLevel() == unix.IPPROTO_IP }) {
		take("inet_sock.inet_opt", 8)
	}
}

// finishAttached attaches the rest, and makes sure that all is there. What was joined first the
// kernel shows last.
func (k *Kind) finishAttached(a *attached, s sort, own int) error {
	all, err := k.planGroups(s, &extra.SocketEntry{Groups: a.groups})
	if err != nil {
		return noLone("a socket in groups that another one can't join (%w)", err)
	}
	for _, g := range slices.Backward(all) {
		if err := g.join(own); err != nil {
			return noLone("a socket in groups that another one can't join (%w)", err)
		}
	}
	m, err := k.memory()
	if err != nil {
		return err
	}
	at, err := m.Sock(own)
	if err != nil {
		return err
	}
	is, err := k.attachedAt(s, at)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(is, a) {
		return noLone("a socket with groups, keys (TCP_AO_ADD_KEY), headers or a filter that another one can't have, or something that awaits the end of a transmission (%d bytes, not %d)", is.memory, a.memory)
	}
	return nil
}
