package sockmem

import (
	"fmt"

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
	// attached, IP options, protocol on top.
	Fixed []Span
	// Moving are what changes by itself when an option is set, and isn't one:
	// timers, the route, how fast packets go and come; and what shares words with one,
	// like ports. There may be none.
	Moving []Span
}

// OpenTCP is Open for a Reader that shows the whole structure of a TCP socket
// of either family, and where things are in it. Other sockets are shown with
// whatever follows them in the kernel's memory.
func OpenTCP() (*Reader, *TCP, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer x.Close() //nolint:errcheck // nothing was written
	l, err := findLayout(x)
	if err != nil {
		return nil, nil, err
	}
	t, err := findTCP(x)
	if err != nil {
		return nil, nil, err
	}
	l.sock = max(l.sock, t.Size)
	r, err := load(l)
	return r, t, err
}

// place is a member that is looked for.
type place struct {
	in, name string
	size     int
	span     *Span
	moving   bool
}

// places are the members of the structures that a TCP socket begins with, so
// that all offsets are its own.
func places(t *TCP) []place {
	return []place{
		{in: "sock_common", name: "skc_family", size: 2, span: &t.Family},
		{in: "sock", name: "sk_protocol", size: 2, span: &t.Protocol},
		{in: "sock_common", name: "skc_net", size: 8},
		{in: "sock_common", name: "skc_bound_dev_if", size: 4},
		{in: "sock", name: "sk_type", size: 2},
		{in: "sock", name: "sk_filter", size: 8},
		{in: "sock", name: "sk_omem_alloc", size: 4},
		{in: "inet_sock", name: "inet_opt", size: 8},
		{in: "inet_connection_sock", name: "icsk_ulp_ops", size: 8},
		{in: "sock", name: "sk_dst_cache", size: 8, moving: true},
		{in: "sock", name: "sk_timer", moving: true},
		{in: "sock", name: "sk_pacing_rate", size: 8, moving: true},
		{in: "sock_common", name: "skc_refcnt", size: 4, moving: true},
		{in: "inet_sock", name: "inet_sport", size: 2, moving: true},
		{in: "inet_connection_sock", name: "icsk_rto", size: 4, moving: true},
		{in: "tcp_sock", name: "srtt_us", size: 4, moving: true},
		{in: "tcp_sock", name: "rtt_min", size: 24, moving: true},
		{in: "tcp_sock", name: "scaling_ratio", size: 1, moving: true},
	}
}

func findTCP(x *bpf.Types) (*TCP, error) {
	t := &TCP{}
	all := places(t)
	at, timer := make([]int, len(all)), 0
	for i := range at {
		at[i] = -1
	}
	err := x.Each(func(s *bpf.Type) bool {
		switch {
		case s.Kind != bpf.KindStruct:
		case x.Named(s, "tcp6_sock"):
			t.Size = int(s.Size)
		case x.Named(s, "timer_list"):
			timer = int(s.Size)
		default:
			if x.Named(s, "tcp_sock") {
				t.Size4 = int(s.Size)
			}
			for i := range all {
				if x.Named(s, all[i].in) {
					at[i] = x.Member(s, all[i].name)
				}
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if t.Size4 <= 0 || t.Size4 > t.Size || t.Size > maxStruct {
		return nil, fmt.Errorf("%w: the kernel has no TCP over IPv6, or its sockets are too large", ErrUnavailable)
	}
	return t, t.note(all, at, timer)
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
		case p.moving:
		case !fits:
			return fmt.Errorf("%w: the kernel's sockets have no %s", ErrUnavailable, p.name)
		case p.span != nil:
			*p.span = s
		default:
			t.Fixed = append(t.Fixed, s)
		}
	}
	t.Fixed = append(t.Fixed, t.Family, t.Protocol)
	return nil
}
