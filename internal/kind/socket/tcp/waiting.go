package tcp

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
)

// Waiting is a connection that a listener hasn't accepted yet.
type Waiting struct {
	*Stream
	Local, Remote netip.AddrPort
	Err           unix.Errno    // what the first call reports, 0 if nothing
	Echo          uint32        // the peer's last time stamp
	Device        string        // the interface that it belongs to, "" if to none
	Deferred      bool          // the listener was not shown it yet (TCP_DEFER_ACCEPT)
	Half          bool          // and neither is its handshake over
	Options       []socket.Told // that its listener had when it came, and hasn't now
}

// Queues reads what waits at listeners, without taking it, from the kernel's
// memory: no system call shows it.
type Queues struct {
	mem    *kmem.Reader
	clock  uint32    // what time stamps are counted from, now
	filter kmem.Addr // the listener's
	// Options tells which options a connection has that its listener hasn't, by its
	// memory, or why that can't be told; nil: they are not asked for.
	Options func(memory []byte) (options []socket.Told, why string, err error)
	again   []byte
	Struct  string // the structure that is read of each; "": a struct tcp_sock
	// Brief leaves out what waits to be read.
	Brief bool
	// Reflects is set if the listener answers with the flow labels of its clients.
	Reflects bool
}

// QueueNames are the members of structures that are read.
func QueueNames() []string {
	return append(append(requestNames(), heldNames()...),
		"inet_connection_sock.icsk_accept_queue", "request_sock_queue.rskq_accept_head", "request_sock_queue.qlen", "?mptcp_sock", "?mptcp_sock.first", "request_sock.dl_next", "request_sock.sk",
		"tcp_sock", "?tcp6_sock", "?tcp6_sock.inet6", "ipv6_pinfo.flow_label", "?ipv6_pinfo.rcv_flowinfo", "?ipv6_pinfo.mcast_hops", "?inet_sock.mc_ttl", "?inet_sock.rcv_tos", "sock_common.skc_family", "sock_common.skc_state", "sock_common.skc_dport",
		"sock_common.skc_daddr", "sock_common.skc_rcv_saddr", "sock_common.skc_v6_daddr", "sock_common.skc_v6_rcv_saddr", "sock_common.skc_bound_dev_if",
		"sock.sk_err", "sock.sk_filter", "sock.sk_receive_queue", "inet_connection_sock.icsk_ulp_ops", "inet_sock.inet_sport",
		"tcp_sock.rcv_nxt", "tcp_sock.copied_seq", "tcp_sock.rcv_wup", "tcp_sock.rcv_wnd", "tcp_sock.snd_una", "tcp_sock.write_seq",
		"tcp_sock.snd_wnd", "tcp_sock.snd_wl1", "tcp_sock.max_window", "tcp_sock.tsoffset", "tcp_sock.urg_data", "tcp_sock.urg_seq", "tcp_sock.snd_up", "?"+inMicros, "tcp_sock.rx_opt", ecnFlags,
		"tcp_options_received.ts_recent", "tcp_options_received.tstamp_ok", "tcp_options_received.wscale_ok", "tcp_options_received.sack_ok",
		"tcp_options_received.snd_wscale", "tcp_options_received.rcv_wscale", "tcp_options_received.mss_clamp",
	)
}

// NewQueues reads with a reader that knows QueueNames.
func NewQueues(m *kmem.Reader) *Queues { return &Queues{mem: m} }

// mostWaiting is more connections than can wait at a listener, and mostPieces
// than pieces of a stream at a connection.
const (
	mostWaiting = 1 << 20
	mostPieces  = 1 << 16
)

// Of returns the connections that wait at a listener, in order. Nothing may
// arrive at them meanwhile. sk is where the kernel has it.
func (q *Queues) Of(sk kmem.Addr) ([]*Waiting, error) {
	now, err := stampClock()
	if err != nil {
		return nil, err
	}
	q.clock = now
	if q.filter, err = q.mem.Pointer(sk + q.mem.Off("sock.sk_filter")); err != nil {
		return nil, err
	}
	head := sk + q.mem.Off("inet_connection_sock.icsk_accept_queue") + q.mem.Off("request_sock_queue.rskq_accept_head")
	var out []*Waiting
	at, err := q.mem.Pointer(head)
	next, own := q.mem.Off("request_sock.dl_next"), q.mem.Off("request_sock.sk")
	request := make([]byte, max(next, own)+8)
	for err == nil && at != 0 && len(out) < mostWaiting {
		if err = q.mem.ReadAt(request, at); err != nil {
			return nil, err
		}
		w, err := q.read(pointerAt(request, own))
		if err != nil {
			return nil, err
		}
		out, at = append(out, w), pointerAt(request, next)
	}
	return out, err
}

func pointerAt(b []byte, at kmem.Addr) kmem.Addr {
	return kmem.Addr(binary.NativeEndian.Uint64(b[at:]))
}

// stampClock returns the time stamp of now, as a socket has it that has no
// offset of its own.
func stampClock() (uint32, error) {
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make a socket to ask for the time: %w", err)
	}
	defer unix.Close(n)
	v, err := number(n, "TCP_TIMESTAMP", unix.TCP_TIMESTAMP)
	if err != nil {
		return 0, err
	}
	return *v, nil
}

func (q *Queues) read(sk kmem.Addr) (*Waiting, error) {
	return untilStill(func() (*Waiting, error) { return q.readOnce(sk) })
}

// untilStill reads a connection, again if it has changed meanwhile: then what it is read by
// may be anything, too. Packets that are held back leave the timers, which send again what
// nobody has acknowledged, in other pieces.
func untilStill[T any](read func() (*T, error)) (*T, error) {
	var failed error
	for range attempts {
		w, err := read()
		if !errors.Is(err, errMoved) && !errors.Is(err, kmem.ErrUnavailable) {
			return w, err
		}
		failed = err
	}
	if errors.Is(failed, errMoved) {
		failed = errRestless
	}
	return nil, failed
}

func (q *Queues) readOnce(sk kmem.Addr) (*Waiting, error) {
	t, err := q.mem.Struct(cmp.Or(q.Struct, "tcp_sock"), sk)
	if err != nil {
		return nil, err
	}
	opts := t.In("tcp_sock.rx_opt")
	w := &Waiting{Err: unix.Errno(t.U32("sock.sk_err")), Stream: &Stream{State: int(t.U8("sock_common.skc_state"))}}
	w.Local, w.Remote = addressesOf(t)
	n := func(name string) *uint32 { return proto.Uint32(t.U32("tcp_sock." + name)) }
	w.Entry = &tcp_stream.TcpStreamEntry{
		InqSeq: n("rcv_nxt"), OutqLen: proto.Uint32(0), OutqSeq: n("write_seq"), UnsqLen: proto.Uint32(0),
		SndWl1: n("snd_wl1"), SndWnd: n("snd_wnd"), MaxWindow: n("max_window"), RcvWnd: n("rcv_wnd"), RcvWup: n("rcv_wup"),
		OptMask: proto.Uint32(agreed(opts)), SndWscale: proto.Uint32(opts.Bits("tcp_options_received.snd_wscale")),
		RcvWscale: proto.Uint32(opts.Bits("tcp_options_received.rcv_wscale")), MssClamp: proto.Uint32(uint32(opts.U16("tcp_options_received.mss_clamp"))),
	}
	forgetAhead(w.Entry)
	if w.Entry.GetOptMask()&optTimestamps != 0 {
		w.Entry.Timestamp, w.Echo = proto.Uint32(q.clock+t.U32("tcp_sock.tsoffset")), opts.U32("tcp_options_received.ts_recent")
	}
	if w.Device, err = deviceOf(t); err != nil {
		return nil, err
	}
	w.Mark = markOf(t)
	if t.Pointer("sock.sk_filter") != q.filter {
		return nil, fmt.Errorf("%w: that of %v: the listener has got another filter since it came (SO_ATTACH_FILTER, SO_ATTACH_BPF)", ErrWaiting, w.Remote)
	}
	if err := q.check(w, t); err != nil {
		return nil, err
	}
	if err := w.readOptions(q, t); err != nil {
		return nil, err
	}
	if err := w.readCame(q, t); err != nil {
		return nil, err
	}
	if q.Brief {
		return w, nil
	}
	if err := w.readQueue(q.mem, t); err != nil {
		return nil, err
	}
	if q.again == nil {
		q.again = make([]byte, q.mem.Off("tcp_sock"))
	}
	err = q.mem.ReadAt(q.again, sk)
	if now := q.mem.StructIn(q.again); err == nil && (now.U32("tcp_sock.rcv_nxt") != *w.Entry.InqSeq || int(now.U8("sock_common.skc_state")) != w.State) {
		err = errMoved
	}
	return w, err
}

// readCame reads what is known of the segment that came from the client; by its label the
// client is answered if its listener reflects labels (IPV6_FL_F_REFLECT).
func (w *Waiting) readCame(q *Queues, t *kmem.Struct) error {
	if !w.Remote.Addr().Is6() {
		if q.mem.Has("inet_sock.mc_ttl") && q.mem.Has("inet_sock.rcv_tos") {
			w.Came = Came{Flow: uint32(t.U8("inet_sock.rcv_tos")) << labelBits, Hops: uint32(t.U8("inet_sock.mc_ttl"))}
		}
		return nil
	}
	if q.Struct != tcp6Sock || !q.mem.Has("ipv6_pinfo.rcv_flowinfo") {
		return nil
	}
	six := t.In("tcp6_sock.inet6")
	w.Came = Came{Flow: binary.BigEndian.Uint32(six.Raw("ipv6_pinfo.rcv_flowinfo", 4)), Hops: hops}
	if q.mem.Has("ipv6_pinfo.mcast_hops") {
		w.Came.Hops = six.Bits("ipv6_pinfo.mcast_hops") & mostHops
	}
	answers := binary.BigEndian.Uint32(six.Raw("ipv6_pinfo.flow_label", 4))
	const label = 1<<labelBits - 1
	if q.Reflects && answers != w.Came.Flow&label {
		return fmt.Errorf("%w: that of %v: it is to be answered with flow label %#x (IPV6_FL_F_REFLECT), and %#x is told", ErrWaiting, w.Remote, answers, w.Came.Flow&label)
	}
	return nil
}

// tcp6Sock is what is read of each connection, with IPv6.
const tcp6Sock = "tcp6_sock"

// readOptions finds out which options it has that its listener hasn't.
func (w *Waiting) readOptions(q *Queues, t *kmem.Struct) (err error) {
	if q.Options == nil {
		return nil
	}
	why := ""
	if w.Options, why, err = q.Options(t.Bytes); err != nil || why == "" {
		return err
	}
	return fmt.Errorf("%w: that of %v: %s", ErrWaiting, w.Remote, why)
}

// agreed is what both ends have agreed upon, as TCP_INFO tells it.
func agreed(opts *kmem.Struct) uint32 {
	mask := uint32(0)
	for name, bit := range map[string]uint32{"tstamp_ok": optTimestamps, "sack_ok": optSACK, "wscale_ok": optWscale} {
		if opts.Bits("tcp_options_received."+name) != 0 {
			mask |= bit
		}
	}
	return mask
}

// ErrWaiting says that a connection that waits can't be put back.
var ErrWaiting = errors.New("a connection that waits to be accepted can't be put back")

// inMicros is where a connection has whether its time stamps are in microseconds
// (Linux 6.7).
const inMicros = "tcp_sock.tcp_usec_ts"

// check refuses what can't be put back.
func (q *Queues) check(w *Waiting, t *kmem.Struct) error {
	why := ""
	switch {
	case w.State != Established && w.State != CloseWait && w.State != Closed:
		why = fmt.Sprintf("it is in state %d", w.State)
	case t.U16("tcp_sock.urg_data") != 0 && w.Mark == nil:
		why = "urgent data is on its way to it (MSG_OOB)"
	case w.State != Closed && w.Entry.GetMssClamp() < w.leastMSS():
		why = fmt.Sprintf("its client takes segments of no more than %d bytes", w.Entry.GetMssClamp())
	case q.mem.Has(inMicros) && t.Bits(inMicros) != 0:
		why = "its time stamps are in microseconds"
	case t.Pointer("tcp_sock.saved_syn") != 0:
		why = "its first segment is kept (TCP_SAVE_SYN)"
	case t.Pointer("inet_connection_sock.icsk_ulp_ops") != 0:
		why = "a protocol is on top of it (TCP_ULP)"
	case w.State != Closed && t.U32("tcp_sock.snd_una") != t.U32("tcp_sock.write_seq"):
		why = "something was sent before it was accepted"
	case w.State == Closed && w.Err != unix.ECONNRESET && w.Err != unix.EPIPE, w.State != Closed && w.Err != 0:
		why = fmt.Sprintf("an error waits to be reported (%v)", w.Err)
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%w: that of %v: %s", ErrWaiting, w.Remote, why)
}

// leastMSS is the size of segments that bpf_sk_assign_tcp_reqsk() asks for at least: of
// the smallest packets that each network must carry.
func (w *Waiting) leastMSS() uint32 {
	const ipv4, ipv6 = 536, 1280 - 40 - headerSize
	if w.Local.Addr().Is6() {
		return ipv6
	}
	return ipv4
}

// readQueue reads what waits to be read from the connection.
func (w *Waiting) readQueue(m *kmem.Reader, t *kmem.Struct) error {
	next := t.U32("tcp_sock.copied_seq")
	end := w.Entry.GetInqSeq() - one(w.peerFin())
	err := m.Buffers(t.At+m.Off("sock.sk_receive_queue"), mostPieces, func(b *kmem.Buffer) error {
		// struct tcp_skb_cb begins with the number of the first byte.
		from := binary.NativeEndian.Uint32(b.Raw("sk_buff.cb", 4))
		skip := next - from
		if after(from, next) {
			return errMoved
		}
		if int(skip) < len(b.Data) {
			w.Queues = append(w.Queues, b.Data[skip:]...)
			next += uint32(len(b.Data)) - skip
		}
		return nil
	})
	switch {
	case w.State == Closed && next+1 == end: // its FIN came before the reset
		end--
	case w.peerFin() && next == end+1: // the end was read
		end++
	}
	if err == nil && next != end {
		err = errMoved
	}
	w.Entry.InqLen = proto.Uint32(uint32(len(w.Queues)))
	return err
}

// addressesOf returns the ends of a connection as its packets have them.
func addressesOf(t *kmem.Struct) (local, remote netip.AddrPort) {
	port := func(name string) uint16 { return binary.BigEndian.Uint16(t.Raw(name, 2)) }
	here, there := port("inet_sock.inet_sport"), port("sock_common.skc_dport")
	at, peer := addrsOf(t)
	return netip.AddrPortFrom(at, here), netip.AddrPortFrom(peer, there)
}

// addrsOf returns the addresses of a struct sock_common.
func addrsOf(t *kmem.Struct) (local, remote netip.Addr) {
	if t.U16("sock_common.skc_family") == unix.AF_INET6 {
		at := func(name string) netip.Addr {
			return netip.AddrFrom16([16]byte(t.Raw("sock_common."+name, 16))).Unmap()
		}
		return at("skc_v6_rcv_saddr"), at("skc_v6_daddr")
	}
	at := func(name string) netip.Addr { return netip.AddrFrom4([4]byte(t.Raw("sock_common."+name, 4))) }
	return at("skc_rcv_saddr"), at("skc_daddr")
}

// deviceOf returns the interface that a connection belongs to, "" if to none.
func deviceOf(t *kmem.Struct) (string, error) {
	n := int(t.U32("sock_common.skc_bound_dev_if"))
	if n == 0 {
		return "", nil
	}
	i, err := net.InterfaceByIndex(n)
	if err != nil {
		return "", fmt.Errorf("a connection that waits to be accepted belongs to interface %d: %w", n, err)
	}
	return i.Name, nil
}
