package sockmem

import "slices"

// part is a member of a structure, or some bits of it.
type part struct {
	name string
	size int // bytes; 0: it is bits, of one byte where the kernel has no such
}

// unfixed are parts of a TCP socket that are no options, change while it is connected,
// and are in one word with some, in one kernel or another.
var unfixed = []part{
	{"sock.sk_write_pending", 4}, {"sock.sk_shutdown", 0}, {"sock.sk_disconnects", 4}, {"sock.sk_dst_pending_confirm", 4},
	{"inet_sock.mc_ttl", 1}, {"inet_sock.rcv_tos", 1}, {"inet_sock.mc_index", 4}, {"inet_sock.mc_addr", 4},
	{"inet_connection_sock.icsk_ca_state", 0}, {"inet_connection_sock.icsk_ca_initialized", 0}, {"inet_connection_sock.icsk_ca_setsockopt", 0},
	{"inet_connection_sock.icsk_ca_dst_locked", 0}, {"inet_connection_sock.icsk_retransmits", 1}, {"inet_connection_sock.icsk_pending", 1},
	{"inet_connection_sock.icsk_backoff", 1}, {"inet_connection_sock.icsk_probes_out", 1},
	{"tcp_sock.tcp_header_len", 2}, {"tcp_sock.urg_data", 2}, {"tcp_sock.repair", 0}, {"tcp_sock.repair_queue", 1}, {"tcp_sock.is_sack_reneg", 0}, {"tcp_sock.is_cwnd_limited", 0},
	{"tcp_sock.compressed_ack", 1}, {"tcp_sock.dup_ack_counter", 0}, {"tcp_sock.tlp_retrans", 0}, {"tcp_sock.frto", 0}, {"tcp_sock.chrono_type", 0},
	{"tcp_sock.rate_app_limited", 0}, {"tcp_sock.ecn_flags", 1}, {"tcp_sock.reordering", 1}, {"tcp_sock.tcp_usec_ts", 0},
	{"tcp_sock.syn_data", 0}, {"tcp_sock.syn_fastopen", 0}, {"tcp_sock.syn_fastopen_exp", 0}, {"tcp_sock.syn_fastopen_ch", 0},
	{"tcp_sock.syn_data_acked", 0}, {"tcp_sock.syn_fastopen_child", 0}, {"tcp_sock.fastopen_client_fail", 0},
	{"tcp_sock.received_ce_pending", 0}, {"tcp_sock.accecn_minlen", 0}, {"tcp_sock.est_ecnfield", 0}, {"tcp_sock.accecn_opt_demand", 0},
	{"tcp_sock.prev_ecnfield", 0}, {"tcp_sock.syn_ect_snt", 0}, {"tcp_sock.syn_ect_rcv", 0}, {"tcp_sock.accecn_fail_mode", 0}, {"tcp_sock.saw_accecn_opt", 0},
}

// unfixed6 are more of them, with IPv6: the way of multicast is that of the first packet.
var unfixed6 = []part{{"ipv6_pinfo.mcast_hops", 1}, {"ipv6_pinfo.mcast_oif", 4}, {"ipv6_pinfo.hop_limit", 2}}

// unfixedUDP are those of a UDP socket that change while it sends, and is shut down.
var unfixedUDP = []part{{"sock.sk_shutdown", 0}, {"udp_sock.len", 2}}

// unfixedUDP6 are more of them: whether the addresses of its route are its own.
var unfixedUDP6 = []part{{"ipv6_pinfo.saddr_cache", 1}, {"ipv6_pinfo.daddr_cache", 1}}

// connectedNames are what BesideConnected and BesideDatagrams need, or would.
func connectedNames() []string {
	names := []string{"sock_flags.SOCK_DONE", "sock_flags.SOCK_TIMESTAMP", "tcp_sock.nonagle", "tcp6_sock.inet6", "udp6_sock.inet6", "sock_common.skc_ipv6only"}
	for _, p := range slices.Concat(unfixed, unfixed6, unfixedUDP, unfixedUDP6) {
		names = append(names, p.name)
	}
	return names
}

// BesideConnected is Beside for an end of a connection, in which more is no option: the
// sizes of buffers, whether they are locked, and whether it takes IPv4 are told otherwise.
func (m *Memory) BesideConnected(t *TCP, v6 bool) (func(is, other []byte), error) {
	beside, err := m.Beside()
	if err != nil {
		return nil, err
	}
	masks := m.masks(unfixed, unfixed6, "tcp6_sock.inet6", v6)
	masks = m.addMask(masks, part{name: "sock_common.skc_ipv6only"}, 0)
	const push = 4 // TCP_NAGLE_PUSH, of what is sent at once
	if nagle := "tcp_sock.nonagle"; m.Has(nagle) {
		f := m.Field(nagle)
		masks = append(masks, bits{at: f.At, size: 4, mask: push << f.Bit})
	}
	locks := m.Field("sock.sk_userlocks")
	const all = 1 | 2 | 16 // SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK, SOCK_CONNECT_BIND
	masks = append(masks, bits{at: locks.At, size: 4, mask: all << locks.Bit})
	// Its peer has sent all; it was once asked for the times of packets, see docs/limits.md.
	for _, flag := range []string{"sock_flags.SOCK_DONE", "sock_flags.SOCK_TIMESTAMP"} {
		if m.Has(flag) {
			masks = append(masks, bits{at: int(m.Off("sock_common.skc_flags")), size: 4, mask: 1 << m.Off(flag)})
		}
	}
	return func(is, other []byte) {
		beside(is, other)
		for _, b := range masks {
			b.take(is, other)
		}
		if o := t.Options; o.Size > 0 && t.HasNone(other) { // as a restore leaves an address of none
			copy(is[o.At:o.At+o.Size], other[o.At:])
		}
	}, nil
}

// BesideDatagrams is Beside for a UDP socket.
func (m *Memory) BesideDatagrams(v6 bool) (func(is, other []byte), error) {
	beside, err := m.Beside()
	if err != nil {
		return nil, err
	}
	masks := m.masks(unfixedUDP, unfixedUDP6, "udp6_sock.inet6", v6)
	return func(is, other []byte) {
		beside(is, other)
		for _, b := range masks {
			b.take(is, other)
		}
	}, nil
}

// masks returns where parts are, also those of IPv6, which are in a member of their own.
func (m *Memory) masks(parts, parts6 []part, six string, v6 bool) (all []bits) {
	for _, p := range parts {
		all = m.addMask(all, p, 0)
	}
	if v6 && m.Has(six) {
		for _, p := range parts6 {
			all = m.addMask(all, p, int(m.Off(six)))
		}
	}
	return all
}

// addMask adds where a part is, if the kernel has it.
func (m *Memory) addMask(to []bits, p part, base int) []bits {
	if !m.Has(p.name) {
		return to
	}
	f := m.Field(p.name)
	b := bits{at: base + f.At, size: 4, mask: uint32(1<<(8*max(p.size, 1)) - 1)}
	if f.Bits > 0 {
		b.mask = uint32(1<<f.Bits-1) << f.Bit
	}
	return append(to, b)
}

// ClearBits has memory not tell of a member of some bits.
func (m *Memory) ClearBits(is []byte, name string) {
	for f, at := m.Field(name), 0; at < 4; at++ {
		is[f.At+at] &^= byte((1<<f.Bits - 1) << f.Bit >> (8 * at))
	}
}

// take has memory be as another one in these bits.
func (b *bits) take(is, other []byte) {
	for i := range b.size {
		m := byte(b.mask >> (8 * i))
		if at := b.at + i; m != 0 && at < len(is) {
			is[at] = is[at]&^m | other[at]&m
		}
	}
}
