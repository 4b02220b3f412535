package sockmem

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
)

// Word is one thing that a Picture has.
type Word int

// What a Picture has, by the kernel's names.
const (
	State Word = iota
	Dport      // in the order of packets, like Sport
	Sport
	Daddr
	Saddr
	Sndbuf
	Rcvbuf
	Err
	Errors // how many are in the error queue
	Shutdown
	PeekOff
	Backlog // bytes that came while the socket was in use
	Spin    // not 0: the socket's lock is taken
	Owned   // not 0: a system call has the socket
	RcvNxt
	CopiedSeq
	SndUna
	SndNxt
	WriteSeq
	SndCwnd
	SndSsthresh
	SndWl1
	SndWnd
	MaxWindow
	RcvWnd
	RcvWup
	WindowClamp
	UrgData
	Repair
	Tsoffset
	SegsIn
	SegsOut
	MssClamp
	TstampOK
	WscaleOK
	SackOK
	SndWscale
	RcvWscale
	EcnFlags
	SynData
	FastopenChild // Linux 6.18, else 0
	UsecTS        // Linux 6.7, else 0
	Pingpong      // how far it is in a dialogue, which decides about TCP_QUICKACK
	V6Only        // of IPv6, like HopLimit
	HopLimit
	RcvFlowInfo // of IPv6, in the order of packets, like McastHops and McastIf what came last
	McastHops
	McastIf
	words
)

// Long is one thing of 8 bytes that a Picture has.
type Long int

// What else a Picture has.
const (
	BytesAcked Long = iota
	BytesReceived
	CongestionOps // address of what belongs to the name of its congestion control
	Dst           // address of the route
	FastopenKeys  // address of its own ones (TCP_FASTOPEN_KEY)
	daddr6
	daddr6End
	saddr6
	saddr6End
	longs
)

// Picture is the state of a connection at one time. Two that are the same, and
// in which nobody uses the socket, tell that nothing has happened to it between.
type Picture struct {
	Word   [words]uint32
	Long   [longs]uint64
	Family uint16
}

// Quiet tells whether nobody had a hand on the socket.
func (p *Picture) Quiet() bool { return p.Word[Spin]|p.Word[Owned]|p.Word[Backlog] == 0 }

// Ends returns the addresses as getsockname(2) and getpeername(2) tell them.
func (p *Picture) Ends() (local, remote netip.AddrPort) {
	return netip.AddrPortFrom(p.addr(Saddr, saddr6), swap(p.Word[Sport])), netip.AddrPortFrom(p.addr(Daddr, daddr6), swap(p.Word[Dport]))
}

func swap(port uint32) uint16 { return uint16(port>>8&0xff | port<<8) }

func (p *Picture) addr(w Word, l Long) netip.Addr {
	var b [16]byte
	if p.Family == unix.AF_INET {
		binary.NativeEndian.PutUint32(b[:], p.Word[w])
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	binary.NativeEndian.PutUint64(b[:], p.Long[l])
	binary.NativeEndian.PutUint64(b[8:], p.Long[l+1])
	return netip.AddrFrom16(b)
}

// Places is where in a TCP socket's structure the words of a Picture are.
type Places struct {
	word   [words]bits
	long   [longs]int
	family int
	size   [2]int // of memory that is needed, of IPv4 and IPv6
}

// bits are some bits of a word; a mask of 0 is a word that the kernel doesn't
// have.
type bits struct {
	at    int // byte
	size  int // of the word, 1, 2 or 4 bytes
	shift int
	mask  uint32
}

// Picture reads memory of a socket into p; false if there is too little of it.
func (l *Places) Picture(memory []byte, p *Picture) bool {
	if l == nil || len(memory) < l.size[1] {
		return false
	}
	p.Family = binary.NativeEndian.Uint16(memory[l.family:])
	for i := range l.word {
		p.Word[i] = l.word[i].read(memory)
	}
	for i, at := range l.long {
		p.Long[i] = binary.NativeEndian.Uint64(memory[at:])
	}
	return true
}

func (b *bits) read(memory []byte) uint32 {
	var v uint32
	switch b.size {
	case 1:
		v = uint32(memory[b.at])
	case 2:
		v = uint32(binary.NativeEndian.Uint16(memory[b.at:]))
	case 4:
		v = binary.NativeEndian.Uint32(memory[b.at:])
	}
	return v >> b.shift & b.mask
}

// member is where a Word is.
type member struct {
	in   int
	name string
	size int    // bytes; 0: it is bits
	of   string // the member of struct tcp_sock (or sock) that in is the type of, "" if that begins with it
	may  bool   // be missing
}

var memberOf = [words]member{
	State:  {in: inTCPCommon, name: "skc_state", size: 1},
	Sport:  {in: inInet, name: "inet_sport", size: 2},
	Sndbuf: {in: inTCPSock, name: "sk_sndbuf", size: 4}, Rcvbuf: {in: inTCPSock, name: "sk_rcvbuf", size: 4},
	Err: {in: inTCPSock, name: "sk_err", size: 4}, Shutdown: {in: inTCPSock, name: "sk_shutdown", size: 1},
	Errors: {in: inErrors, name: "qlen", size: 4, of: "sk_error_queue"}, PeekOff: {in: inTCPSock, name: "sk_peek_off", size: 4},
	RcvNxt: {in: inTCP, name: "rcv_nxt", size: 4}, CopiedSeq: {in: inTCP, name: "copied_seq", size: 4},
	SndUna: {in: inTCP, name: "snd_una", size: 4}, SndNxt: {in: inTCP, name: "snd_nxt", size: 4}, WriteSeq: {in: inTCP, name: "write_seq", size: 4},
	SndCwnd: {in: inTCP, name: "snd_cwnd", size: 4}, SndSsthresh: {in: inTCP, name: "snd_ssthresh", size: 4},
	SndWl1: {in: inTCP, name: "snd_wl1", size: 4}, SndWnd: {in: inTCP, name: "snd_wnd", size: 4}, MaxWindow: {in: inTCP, name: "max_window", size: 4},
	RcvWnd: {in: inTCP, name: "rcv_wnd", size: 4}, RcvWup: {in: inTCP, name: "rcv_wup", size: 4}, WindowClamp: {in: inTCP, name: "window_clamp", size: 4},
	UrgData: {in: inTCP, name: "urg_data", size: 2}, Repair: {in: inTCP, name: "repair"}, Tsoffset: {in: inTCP, name: "tsoffset", size: 4},
	SegsIn: {in: inTCP, name: "segs_in", size: 4}, SegsOut: {in: inTCP, name: "segs_out", size: 4},
	MssClamp: {in: inOptions, name: "mss_clamp", size: 2, of: "rx_opt"},
	TstampOK: {in: inOptions, name: "tstamp_ok", of: "rx_opt"}, WscaleOK: {in: inOptions, name: "wscale_ok", of: "rx_opt"},
	SackOK: {in: inOptions, name: "sack_ok", of: "rx_opt"}, SndWscale: {in: inOptions, name: "snd_wscale", of: "rx_opt"},
	RcvWscale: {in: inOptions, name: "rcv_wscale", of: "rx_opt"}, EcnFlags: {in: inTCP, name: "ecn_flags", size: 1}, SynData: {in: inTCP, name: "syn_data"},
	FastopenChild: {in: inTCP, name: "syn_fastopen_child", may: true}, UsecTS: {in: inTCP, name: "tcp_usec_ts", may: true},
	V6Only: {in: inTCPCommon, name: "skc_ipv6only"}, HopLimit: {in: inIP6, name: "hop_limit", size: 2, of: "inet6"},
	RcvFlowInfo: {in: inIP6, name: "rcv_flowinfo", size: 4, of: "inet6", may: true}, McastHops: {in: inIP6, name: "mcast_hops", size: 2, of: "inet6", may: true},
	McastIf: {in: inIP6, name: "mcast_oif", size: 4, of: "inet6", may: true},
}

// pictures finds out where the words of a Picture are.
type pictures struct {
	types *bpf.Types
	found []bpf.Type     // by tcpStructures
	outer map[string]int // what has members that aren't struct sock's
	out   *Places
	sound bool
	limit int
}

// findPicture returns nil if something isn't where it is known to be.
func findPicture(x *bpf.Types, found []bpf.Type, t *TCP) (*Places, error) {
	p := &pictures{types: x, found: found, out: &Places{family: t.Family.At}, outer: map[string]int{"inet6": inTCP6, "rx_opt": inTCP}, sound: true, limit: t.Size}
	for w := range words {
		if memberOf[w].name != "" {
			p.word(w, memberOf[w])
		}
	}
	for l, m := range map[Long]member{
		BytesAcked: {in: inTCP, name: "bytes_acked"}, BytesReceived: {in: inTCP, name: "bytes_received"},
		CongestionOps: {in: inConnection, name: "icsk_ca_ops"}, Dst: {in: inTCPSock, name: "sk_dst_cache"},
		daddr6: {in: inTCPCommon, name: "skc_v6_daddr"}, saddr6: {in: inTCPCommon, name: "skc_v6_rcv_saddr"},
	} {
		p.out.long[l] = p.check(x.Member(&found[m.in], m.name), 16)
	}
	queue, fast, keys := x.Member(&found[inConnection], "icsk_accept_queue"), x.Member(&found[inRequests], "fastopenq"), x.Member(&found[inFastopen], "ctx")
	if queue < 0 || fast < 0 || keys < 0 {
		return nil, nil
	}
	p.out.long[FastopenKeys] = p.check(queue+fast+keys, 8)
	p.out.long[daddr6End], p.out.long[saddr6End] = p.out.long[daddr6]+8, p.out.long[saddr6]+8
	if err := p.unnamed(); err != nil || !p.sound {
		return nil, err
	}
	p.out.size = [2]int{t.Size4, t.Size}
	return p.out, nil
}

// check notes that a place is not inside of the structure.
func (p *pictures) check(at, size int) int {
	if at < 0 || at+size > p.limit {
		p.sound = false
		return 0
	}
	return at
}

func (p *pictures) word(w Word, m member) {
	p.out.word[w] = p.place(m)
}

// place finds where a member is.
func (p *pictures) place(m member) bits {
	base := 0
	if m.of != "" {
		outer, ok := p.outer[m.of]
		if !ok {
			outer = inTCPSock
		}
		at := p.types.Member(&p.found[outer], m.of)
		if m.of == "inet6" {
			at = inet6At(p.types, p.found, outer)
		}
		base = p.check(at, 0)
	}
	b := p.types.Bits(&p.found[m.in], m.name)
	if b.Offset < 0 && m.may {
		return bits{}
	}
	if b.Offset < 0 || b.Size > 16 || b.Size == 0 && (m.size == 0 || b.Offset%8 != 0) {
		p.sound = false
		return bits{}
	}
	at := p.check(base+b.Offset/8, 4)
	if b.Size > 0 { // a word of 4 bytes holds any of them
		return bits{at, 4, b.Offset % 8, 1<<b.Size - 1}
	}
	return bits{at, m.size, 0, 1<<(8*m.size) - 1}
}

// unnamed finds what is in structures and unions without a name, and the lock.
func (p *pictures) unnamed() error {
	common, err := p.types.Fields(&p.found[inTCPCommon], "skc_daddr", "skc_rcv_saddr", "skc_dport")
	if err != nil {
		return err
	}
	for i, w := range []Word{Daddr, Saddr, Dport} {
		size := 4
		if w == Dport {
			size = 2
		}
		p.out.word[w] = bits{p.check(common[i].Offset, size), size, 0, 1<<(8*size) - 1}
	}
	sock := &p.found[inTCPSock]
	lock, backlog := p.types.Member(sock, "sk_lock"), p.types.Member(sock, "sk_backlog")
	owned, err := p.types.Inner(sock, "sk_lock", "owned")
	if err != nil {
		return err
	}
	length, err := p.types.Inner(sock, "sk_backlog", "len")
	if err != nil {
		return err
	}
	// A lock that may sleep (CONFIG_PREEMPT_RT) isn't known by one word.
	if p.types.Member(&p.found[inLock], "lock") >= 0 || owned < 0 || length < 0 {
		p.sound = false
	}
	dialogue, err := p.types.Inner(&p.found[inConnection], "icsk_ack", "pingpong")
	if err != nil {
		return err
	}
	ack := p.types.Member(&p.found[inConnection], "icsk_ack")
	if dialogue < 0 {
		p.sound = false
	}
	p.out.word[Pingpong] = bits{p.check(ack+dialogue, 1), 1, 0, 1<<8 - 1}
	for w, at := range map[Word]int{Spin: lock, Owned: lock + owned, Backlog: backlog + length} {
		p.out.word[w] = bits{p.check(at, 4), 4, 0, 1<<32 - 1}
	}
	return nil
}
