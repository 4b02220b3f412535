package sockmem

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
)

// Span is a part of a structure, in bytes.
type Span struct{ At, Size int }

// TCP is where things are in the structure of a TCP socket.
type TCP struct {
	Size             int // of struct tcp6_sock
	Size4            int // of struct tcp_sock, which is the whole with IPv4
	Family, Protocol Span
	// Fixed are what its users rely on to be alike besides options: network
	// namespace, type, interface it is bound to, filter, memory of what is
	// attached, IP options, protocol on top, and what no option tells.
	Fixed []Span
	// Options is the address of a connection's IP options, which has some when they
	// were taken off, too; HasNone tells of those.
	Options      Span
	header, peer Span
	// Fixed6 are more of them, with IPv6.
	Fixed6 []Span
	// Passed are those of Fixed and Fixed6 that who is accepted has from its listener.
	Passed []Span
	// Policies and Headers are such as well, addresses of what each has of its own: of
	// IPsec, and of IPv6. Charged is how much memory what is attached takes.
	Policies, Headers, Charged Span
	// Moving are what changes by itself when an option is set, and isn't one:
	// timers, the route, how fast packets go and come; or when others come and go, which
	// are in one list with it; and what shares words with one, like ports. There may be none.
	Moving []Span
	// Picture is where the state of a connection is; nil if that isn't known.
	Picture *Places
	// UDP is the same of a UDP socket, which has Datagrams for Picture; nil if that
	// isn't known.
	UDP       *TCP
	Datagrams *UDPPlaces
	// Placed are options that can't be learnt, as to set them would change something
	// for all of the machine, or nothing that they tell: they are among Fixed.
	Placed []string
}

// TCPReader is a Reader with what is known of TCP sockets.
type TCPReader struct {
	*Reader
	TCP *TCP
}

// OpenTCP is Open for a Reader that shows the whole structure of a TCP socket
// of either family, and where things are in it. Other sockets are shown with
// whatever follows them in the kernel's memory.
func OpenTCP() (*TCPReader, error) {
	x, err := kernelBTF()
	if err != nil {
		return nil, err
	}
	defer x.Close() //nolint:errcheck // nothing was written
	l, err := findLayout(x)
	if err != nil {
		return nil, err
	}
	t, err := findTCP(x)
	if err != nil {
		return nil, err
	}
	l.sock = max(l.sock, t.Size)
	r, err := load(l)
	if err != nil {
		return nil, err
	}
	return &TCPReader{r, t}, nil
}

// place is a member that is looked for.
type place struct {
	in     int // see tcpStructures
	name   string
	before int // it is so many bytes before that member
	size   int
	span   *Span
	moving bool
	may    bool // be missing
	passed bool // it is among Passed, too
}

// Structures that a TCP socket is made of.
const (
	inTCP6 = iota
	inTCP
	inTimer
	inTCPCommon
	inTCPSock
	inInet
	inConnection
	inOptions // struct tcp_options_received
	inLock    // socket_lock_t has no name, see locked
	inIP6
	inErrors
	inUDP
	inUDP6
	inRequests
	inFastopen
	inProto
)

func structNamed(name string) bpf.Name { return bpf.Name{Kind: bpf.KindStruct, Name: name} }

var tcpStructures = []bpf.Name{
	inTCP6: structNamed("tcp6_sock"), inTCP: structNamed("tcp_sock"), inTimer: structNamed("timer_list"),
	inTCPCommon: structNamed("sock_common"), inTCPSock: structNamed("sock"), inInet: structNamed("inet_sock"),
	inConnection: structNamed("inet_connection_sock"), inOptions: structNamed("tcp_options_received"),
	inLock: structNamed("spinlock"), inIP6: structNamed("ipv6_pinfo"), inErrors: structNamed("sk_buff_head"),
	inUDP: structNamed("udp_sock"), inUDP6: structNamed("udp6_sock"),
	inRequests: structNamed("request_sock_queue"), inFastopen: structNamed("fastopen_queue"), inProto: structNamed("proto"),
}

// places are the members of the structures that a TCP socket begins with, so
// that all offsets are its own.
func places(t *TCP) []place {
	return []place{
		{in: inTCPCommon, name: "skc_family", size: 2, span: &t.Family},
		{in: inTCPSock, name: "sk_protocol", size: 2, span: &t.Protocol},
		{in: inTCPCommon, name: "skc_net", size: 8},
		{in: inTCPCommon, name: "skc_bound_dev_if", size: 4},
		{in: inTCPSock, name: "sk_type", size: 2},
		{in: inTCPSock, name: "sk_filter", size: 8, passed: true},
		{in: inTCPSock, name: "sk_omem_alloc", size: 4, span: &t.Charged},
		{in: inTCPSock, name: "sk_reuseport_cb", size: 8}, // a place among those that share a port
		{in: inInet, name: "inet_opt", size: 8, span: &t.Options},
		{in: inConnection, name: "icsk_ext_hdr_len", size: 2, span: &t.header},
		{in: inTCPCommon, name: "skc_v6_daddr", size: 16, span: &t.peer},
		{in: inConnection, name: "icsk_ulp_ops", size: 8},
		{in: inTCPSock, name: "sk_policy", size: 16, may: true, span: &t.Policies},     // CONFIG_XFRM
		{in: inTCPSock, name: "sk_busy_poll_budget", size: 2, may: true, passed: true}, // Linux 5.11
		{in: inInet, name: "ipv6_fl_list", size: 8, may: true},                         // Linux 6.18
		{in: inTCP, name: "fastopen_connect", size: 1},                                 // with bits beside it
		{in: inTCPSock, name: "sk_dst_cache", size: 8, moving: true},
		{in: inTCPSock, name: "sk_timer", moving: true},
		{in: inTCPSock, name: "sk_pacing_rate", size: 8, moving: true},
		{in: inTCPSock, name: "sk_forward_alloc", size: 4, moving: true}, // SO_RESERVE_MEM adds to it
		{in: inTCPCommon, name: "skc_refcnt", size: 4, moving: true},
		// skc_node and skc_bind_node, which are in unions: who is beside it among all
		// connections, and at its port.
		{in: inTCPCommon, name: "skc_dontcopy_begin", size: 16, moving: true},
		{in: inTCPSock, name: "sk_bind2_node", size: 16, moving: true}, // before Linux 6.8: likewise
		{in: inTCPCommon, name: "skc_prot", before: 16, size: 16, moving: true},
		{in: inInet, name: "inet_sport", size: 2, moving: true},
		{in: inConnection, name: "icsk_keepalive_timer", moving: true}, // before Linux 6.18, when it became sk_timer
		{in: inConnection, name: "icsk_rto", size: 4, moving: true},
		{in: inTCP, name: "srtt_us", size: 4, moving: true},
		{in: inTCP, name: "rtt_min", size: 24, moving: true},
		{in: inTCP, name: "scaling_ratio", size: 1, moving: true},
	}
}

func findTCP(x *bpf.Types) (*TCP, error) {
	types, err := x.Find(tcpStructures...)
	if err != nil {
		return nil, err
	}
	t := &TCP{Size: int(types[inTCP6].Size), Size4: int(types[inTCP].Size)}
	all := places(t)
	at, err := offsets(x, types, all)
	if err != nil {
		return nil, err
	}
	if t.Size4 <= 0 || t.Size4 > t.Size || t.Size > maxStruct {
		return nil, fmt.Errorf("%w: the kernel has no TCP over IPv6, or its sockets are too large", ErrUnavailable)
	}
	if err := t.note(all, at, int(types[inTimer].Size)); err != nil {
		return nil, err
	}
	if err := t.within(x, types); err != nil {
		return nil, err
	}
	t.UDP = findUDP(x, types, t.Size)
	t.Picture, err = findPicture(x, types, t)
	return t, err
}

// offsets finds places, also in unions without a name: all of a structure at once.
func offsets(x *bpf.Types, types []bpf.Type, all []place) ([]int, error) {
	at := make([]int, len(all))
	for in := range types {
		var names []string
		var of []int
		for i := range all {
			if all[i].in == in {
				names, of = append(names, all[i].name), append(of, i)
			}
		}
		if len(names) == 0 {
			continue
		}
		found, err := x.Fields(&types[in], names...)
		if err != nil {
			return nil, err
		}
		for i, f := range found {
			at[of[i]] = f.Offset - all[of[i]].before
		}
	}
	return at, nil
}

// HasNone tells whether a connection has no IP options, though there may be an
// address of some of no length: the kernel keeps how long those are that go with every
// packet, with IPv6 only where the peer's address is one of IPv4 (icsk_ext_hdr_len).
func (t *TCP) HasNone(memory []byte) bool {
	if t.header.Size == 0 {
		return false // not of TCP
	}
	ne := binary.NativeEndian
	v4 := ne.Uint16(memory[t.Family.At:]) == unix.AF_INET || netip.AddrFrom16([16]byte(memory[t.peer.At:])).Is4In6()
	return v4 && ne.Uint16(memory[t.header.At:]) == 0
}

// Bare has a connection's memory tell of no headers of IPv6, and of no IP options where there
// are none of any length.
func (t *TCP) Bare(memory []byte) {
	if t.HasNone(memory) {
		clear(memory[t.Options.At : t.Options.At+t.Options.Size])
	}
	if h := t.Headers; h.Size > 0 && binary.NativeEndian.Uint64(memory[h.At:]) != 0 {
		clear(memory[t.header.At : t.header.At+t.header.Size])
		clear(memory[h.At : h.At+h.Size])
	}
}

// within notes what is in structures inside of a socket's.
func (t *TCP) within(x *bpf.Types, types []bpf.Type) error {
	outer, at := x.Member(&types[inTCP], "rx_opt"), x.Member(&types[inOptions], "user_mss")
	t.Fixed = addSpan(t.Fixed, t.Size4, outer, at, 2)
	queue, fast, qlen := x.Member(&types[inConnection], "icsk_accept_queue"), x.Member(&types[inRequests], "fastopenq"), x.Member(&types[inFastopen], "max_qlen")
	if queue < 0 || fast < 0 || qlen < 0 {
		return fmt.Errorf("%w: the kernel's sockets have no queue of TCP_FASTOPEN", ErrUnavailable)
	}
	t.Fixed = addSpan(t.Fixed, t.Size4, queue+fast, qlen, 4)
	t.within6(x, types, inet6At(x, types, inTCP6))
	return nil
}

// inet6At returns where a socket of a sort has its part that is about IPv6, struct ipv6_pinfo; -1
// if there is none. Before Linux 6.6 that isn't at its member, but at the end of all, also if the
// structure is padded.
func inet6At(x *bpf.Types, types []bpf.Type, in int) int {
	member := x.Member(&types[in], "inet6")
	if member < 0 || x.Member(&types[inProto], "ipv6_pinfo_offset") >= 0 {
		return member
	}
	return int(types[in].Size) - int(types[inIP6].Size)
}

// within6 notes what is in the part of a socket that is about IPv6.
func (t *TCP) within6(x *bpf.Types, types []bpf.Type, six int) {
	t.Fixed6 = addSpan(t.Fixed6, t.Size, six, x.Member(&types[inIP6], "sticky_pktinfo"), 20)
	t.Fixed6 = addSpan(t.Fixed6, t.Size, six, x.Member(&types[inIP6], "frag_size"), 4)
	t.Fixed6 = addSpan(t.Fixed6, t.Size, six, x.Member(&types[inIP6], "flow_label"), 4)
	t.Passed = append(t.Passed, t.Fixed6...)
	for _, s := range addSpan(nil, t.Size, six, x.Member(&types[inIP6], "opt"), 8) {
		t.Headers = s
	}
	t.Fixed6 = addSpan(t.Fixed6, t.Size, six, x.Member(&types[inIP6], "ipv6_fl_list"), 8) // before Linux 6.18
}

// addSpan adds a part of a structure inside of another, if it is there.
func addSpan(to []Span, limit, outer, at, size int) []Span {
	if outer < 0 || at < 0 || outer+at+size > limit {
		return to
	}
	return append(to, Span{outer + at, size})
}

// note notes where the places are.
func (t *TCP) note(all []place, at []int, timer int) error {
	for i, p := range all {
		s := Span{at[i], p.size}
		if p.size == 0 {
			s.Size = timer
		}
		fits := s.At >= 0 && s.Size <= t.Size4 && s.At <= t.Size4-s.Size
		switch {
		case p.moving && fits:
			t.Moving = append(t.Moving, s)
		case p.moving, p.may && s.At < 0:
		case !fits:
			return fmt.Errorf("%w: the kernel's sockets have no %s", ErrUnavailable, p.name)
		case p.span != nil:
			*p.span = s
		default:
			t.Fixed = append(t.Fixed, s)
		}
		if p.passed && s.At >= 0 {
			t.Passed = append(t.Passed, s)
		}
	}
	t.Fixed = append(t.Fixed, t.Family, t.Protocol, t.Options, t.Charged, t.Policies)
	return nil
}
