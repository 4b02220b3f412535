package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockdiag"
)

// A listener with TCP_DEFER_ACCEPT isn't shown a client before that has sent
// something. Until then the kernel has a request of it only, which no listener knows
// of: they are found among all of the network namespace.

// Half counts the requests to a port that are no connections yet.
func Half(c *sockdiag.Conn, port uint16) (int, error) {
	n := 0
	err := half(c, port, func(*sockdiag.Inet) { n++ })
	return n, err
}

// half calls fn with each of them. They are of their listener's family, also such as
// come to one of IPv6 by IPv4.
func half(c *sockdiag.Conn, port uint16, fn func(*sockdiag.Inet)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		q := sockdiag.InetQuery{Family: family, Protocol: unix.IPPROTO_TCP, States: 1 << SynRecv, Port: port}
		err := c.EachInet(q, func(s *sockdiag.Inet) error {
			fn(s)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// newSynRecv is the state of a request, TCP_NEW_SYN_RECV in include/net/tcp_states.h.
const newSynRecv = 12

// requestNames are the members of structures that are read of requests.
func requestNames() []string {
	return []string{
		"tcp_request_sock", "tcp_request_sock.rcv_isn", "tcp_request_sock.snt_isn", "tcp_request_sock.ts_off", "?tcp_request_sock.req_usec_ts",
		"inet_request_sock.snd_wscale", "inet_request_sock.rcv_wscale", "inet_request_sock.tstamp_ok", "inet_request_sock.sack_ok",
		"inet_request_sock.wscale_ok", "inet_request_sock.acked",
		"request_sock.mss", "request_sock.ts_recent", "request_sock.saved_syn", "request_sock.num_timeout", "sock_common.skc_rcv_wnd", "sock_common.skc_listener", "sock_common.skc_num",
	}
}

// Deferred returns the clients whose first data a listener waits for, in no certain
// order. Such whose handshake isn't over are not among them, see Halves.
func (q *Queues) Deferred(sk kmem.Addr) (out []*Waiting, err error) {
	err = q.eachRequest(sk, func(r *kmem.Struct) error {
		if r.Bits("inet_request_sock.acked") == 0 {
			return nil
		}
		w, err := q.ofRequest(r)
		out = append(out, w)
		return err
	})
	return out, err
}

// Halves returns the clients that a listener has answered a moment ago, and not heard of since:
// most take themselves for connected already, and the last segment of the handshake is on its
// way. Those that were answered more than once are not among them, nor such as can't be told.
func (q *Queues) Halves(sk kmem.Addr) (out []*Waiting, err error) {
	err = q.eachRequest(sk, func(r *kmem.Struct) error {
		if r.Bits("inet_request_sock.acked") != 0 || r.Bits("request_sock.num_timeout") != 0 {
			return nil
		}
		w, err := q.ofRequest(r)
		if errors.Is(err, ErrWaiting) {
			return nil
		}
		if err == nil {
			w.Half = true
			out = append(out, w)
		}
		return err
	})
	return out, err
}

// eachRequest calls fn with the requests of a listener.
func (q *Queues) eachRequest(sk kmem.Addr, fn func(*kmem.Struct) error) error {
	now, err := stampClock()
	if err != nil {
		return err
	}
	q.clock = now
	all, err := requests()
	if err != nil {
		return err
	}
	for _, at := range all {
		r, err := q.mem.Struct("tcp_request_sock", at)
		if err != nil {
			return err
		}
		if int(r.U8("sock_common.skc_state")) != newSynRecv || r.Pointer("sock_common.skc_listener") != sk {
			continue
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// ofRequest makes what is known of a request the connection that it is to become:
// see tcp_create_openreq_child() in net/ipv4/tcp_minisocks.c. How much the client
// takes only it knows, and tells with its first segment; until then it is taken for
// the least.
func (q *Queues) ofRequest(r *kmem.Struct) (*Waiting, error) {
	w := &Waiting{Stream: &Stream{State: Established}, Deferred: true}
	w.Local, w.Remote = requestEnds(r)
	if q.mem.Has("tcp_request_sock.req_usec_ts") && r.Bits("tcp_request_sock.req_usec_ts") != 0 {
		return nil, fmt.Errorf("%w: that of %v: its time stamps are in microseconds", ErrWaiting, w.Remote)
	}
	if r.Pointer("request_sock.saved_syn") != 0 {
		return nil, fmt.Errorf("%w: that of %v: its first segment is kept (TCP_SAVE_SYN)", ErrWaiting, w.Remote)
	}
	next, mss := r.U32("tcp_request_sock.rcv_isn")+1, uint32(r.U16("request_sock.mss"))
	none := func() *uint32 { return proto.Uint32(0) }
	w.Entry = &tcp_stream.TcpStreamEntry{
		InqSeq: &next, InqLen: none(), OutqSeq: proto.Uint32(r.U32("tcp_request_sock.snt_isn") + 1), OutqLen: none(), UnsqLen: none(),
		SndWl1: &next, SndWnd: &mss, MaxWindow: &mss, RcvWnd: proto.Uint32(r.U32("sock_common.skc_rcv_wnd")), RcvWup: &next, MssClamp: &mss,
	}
	mask := uint32(0)
	for name, bit := range map[string]uint32{"tstamp_ok": optTimestamps, "sack_ok": optSACK, "wscale_ok": optWscale} {
		if r.Bits("inet_request_sock."+name) != 0 {
			mask |= bit
		}
	}
	w.Entry.OptMask, w.Entry.SndWscale = &mask, none()
	if mask&optWscale != 0 {
		w.Entry.SndWscale, w.Entry.RcvWscale = proto.Uint32(r.Bits("inet_request_sock.snd_wscale")), proto.Uint32(r.Bits("inet_request_sock.rcv_wscale"))
	}
	if mask&optTimestamps != 0 {
		w.Entry.Timestamp, w.Echo = proto.Uint32(q.clock+r.U32("tcp_request_sock.ts_off")), r.U32("request_sock.ts_recent")
	}
	var err error
	w.Device, err = deviceOf(r)
	return w, err
}

// requestEnds returns the ends of the connection to be, as its packets have them.
func requestEnds(r *kmem.Struct) (local, remote netip.AddrPort) {
	here, there := r.U16("sock_common.skc_num"), binary.BigEndian.Uint16(r.Raw("sock_common.skc_dport", 2))
	at, peer := addrsOf(r)
	return netip.AddrPortFrom(at, here), netip.AddrPortFrom(peer, there)
}

// forget has the kernel give up the request that a connection was before its listener
// was closed, on this host: it does so by itself in a second or so, when it would
// answer the client again, or when something comes for it. Until then there is no room
// for the connection.
func (w *Waiting) forget() error {
	c, err := sockdiag.Open(0)
	if err != nil {
		return err
	}
	defer c.Close()
	there, err := w.requested(c)
	if err != nil || !there {
		return err
	}
	reset := &segment{Path: Path{Local: w.Local, Remote: w.Remote, Device: w.Device}, bound: true, flags: flagRst, seq: w.start()}
	if err := reset.send(); err != nil {
		return fmt.Errorf("send a segment as if from %v: %w", w.Remote, err)
	}
	return await(func() (bool, error) {
		there, err := w.requested(c)
		return !there, err
	})
}

// requested tells whether there is a request that has the ends of a connection.
func (w *Waiting) requested(c *sockdiag.Conn) (bool, error) {
	found := false
	err := half(c, w.Local.Port(), func(s *sockdiag.Inet) {
		found = found || s.Dst.Port() == w.Remote.Port() && s.Dst.Addr().Unmap() == w.Remote.Addr().Unmap()
	})
	return found, err
}

// ctxSock is where what the iterator over TCP sockets calls its program with has the
// socket: struct bpf_iter__tcp.
const ctxSock = 8

// requests returns all requests of Glis's network namespace, by an iterator over TCP
// sockets (Linux 5.9).
func requests() ([]kmem.Addr, error) {
	function, state, err := requestIterator()
	if err != nil {
		return nil, err
	}
	const here = -8 // on the stack
	prog, err := linux.BPFLoadIterator(bpf.Finish([]bpf.Insn{
		bpf.In(bpf.Load64, 8, 1, ctxSock, 0),
		bpf.In(bpf.JumpEq, 8, 0, 0, 0), // to the end
		bpf.In(bpf.Load8, 2, 8, state, 0),
		bpf.In(bpf.AddImm, 2, 0, 0, -newSynRecv),
		bpf.In(bpf.JumpGt, 2, 0, 0, 0), // it isn't 0 then
		bpf.In(bpf.Store64, 10, 8, here, 0),
		// seq_write(meta->seq, &sock, 8)
		bpf.In(bpf.Load64, 1, 1, bpf.CtxMeta, 0), bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
		bpf.In(bpf.Move, 2, 10, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, here),
		bpf.In(bpf.MoveImm, 3, 0, 0, 8),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite),
	}), bpf.License, function)
	if err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", kmem.ErrUnavailable, err)
	}
	defer unix.Close(prog)
	it, err := linux.BPFIterator(prog)
	if err != nil {
		return nil, fmt.Errorf("%w: bpf iterator over TCP sockets: %w", kmem.ErrUnavailable, err)
	}
	defer unix.Close(it)
	var out []kmem.Addr
	err = bpf.Drain(it, func(b []byte) (int, error) {
		for ; len(b) >= 8; b = b[8:] {
			out = append(out, kmem.Addr(binary.NativeEndian.Uint64(b)))
		}
		return len(b), nil
	})
	return out, err
}

// requestIterator finds the iterator's function, and where a socket has its state.
func requestIterator() (function uint32, state int, err error) {
	x, err := bpf.Kernel()
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", kmem.ErrUnavailable, err)
	}
	defer x.Close() //nolint:errcheck // nothing was written
	found, err := x.Find(bpf.Name{Kind: bpf.KindFunc, Name: "bpf_iter_tcp"}, bpf.Name{Kind: bpf.KindStruct, Name: "sock_common"})
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", kmem.ErrUnavailable, err)
	}
	state = x.Member(&found[1], "skc_state")
	if found[0].ID == 0 || state < 0 {
		return 0, 0, fmt.Errorf("%w: the kernel has no iterator over TCP sockets", kmem.ErrUnavailable)
	}
	return found[0].ID, state, nil
}
