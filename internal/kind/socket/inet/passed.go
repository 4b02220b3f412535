package inet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
)

// A client that waits to be accepted has the options that its listener had when it came.
// Those may be others by now. Its memory tells which: what of it is no option, or isn't
// passed on, is put aside, and for one of all that are alike then a socket is found that
// has the same, as for those that only messages have, see fitted. What the listener hasn't
// it is lent while the client gets into its queue, see admit.

// passing compares clients that wait at a listener with it.
type passing struct {
	l      *look
	layout *sockmem.TCPReader
	mem    *sockmem.Memory
	learnt *socket.Alike
	kernel *socket.Kernel // of connections
	beside func(is, other []byte)
	own    []byte // the listener's memory
	nobody []byte // of nothing
	room   []byte
	plain  []byte // what counts of that
	told   passed // the listener's
	// reflecting is where memory says that it answers with flow labels; nil: it doesn't.
	reflecting *reflection
}

// passed is what memory tells by name. Of sizes that the kernel has chosen nothing is.
type passed struct {
	locks, rcvbuf, sndbuf, clamp uint32
	hops                         uint32
	segment                      uint16
	dialogue, ended              bool // ended: the client has sent all
	noCookie                     uint32
	congestion                   uint64
}

// heritage is what clients are alike in, and their listeners.
type heritage struct {
	group  *socket.Group
	values *socket.Value
	passed passed
}

// different is which options they have that their listener hasn't, or why that can't be
// told.
type different struct {
	options []socket.Told
	why     string
}

// passesOn prepares it. sk is where the kernel has the listener.
func (l *look) passesOn(m *kmem.Reader, sk kmem.Addr) (*passing, error) {
	h := &passing{l: l, mem: &sockmem.Memory{Reader: m}}
	s := sort{family: l.family, protocol: unix.IPPROTO_TCP, connected: true}
	var err error
	if h.learnt, h.layout, err = l.kind.learnPassed(s); err != nil {
		return nil, err
	}
	if h.kernel, err = l.kind.kernel(s); err != nil {
		return nil, err
	}
	if h.beside, err = h.mem.BesideConnected(h.layout.TCP, l.family == unix.AF_INET6); err != nil {
		return nil, err
	}
	size := h.layout.TCP.Size
	h.own, h.nobody, h.room, h.plain = make([]byte, size), make([]byte, size), make([]byte, size), make([]byte, size)
	if err := m.ReadAt(h.own[:h.learnt.Size()], sk); err != nil {
		return nil, err
	}
	if h.told, err = h.tell(h.own); err != nil {
		return nil, err
	}
	return h, h.reflects()
}

// learnPassed learns which parts of connections of a sort are options.
func (k *Kind) learnPassed(s sort) (*socket.Alike, *sockmem.TCPReader, error) {
	r, err := k.layout()
	if err != nil {
		return nil, nil, err
	}
	if r.TCP.Picture == nil {
		return nil, nil, fmt.Errorf("%w: a connection's state can't be told", kmem.ErrUnavailable)
	}
	kernel, err := k.kernel(s)
	if err != nil {
		return nil, nil, err
	}
	learnt, err := k.learnLone(s, kernel, r, r.TCP)
	return learnt, r, err
}

// tell reads what memory tells by name.
func (h *passing) tell(memory []byte) (passed, error) {
	var p sockmem.Picture
	if !h.layout.TCP.Picture.Picture(memory, &p) {
		return passed{}, fmt.Errorf("%w: a connection's state can't be told", kmem.ErrUnavailable)
	}
	s := h.mem.StructIn(memory)
	own := passed{
		locks: s.Bits("sock.sk_userlocks") & sizesLocked, rcvbuf: p.Word[sockmem.Rcvbuf], sndbuf: p.Word[sockmem.Sndbuf],
		clamp: p.Word[sockmem.WindowClamp], hops: p.Word[sockmem.HopLimit], segment: s.In("tcp_sock.rx_opt").U16("tcp_options_received.user_mss"),
		dialogue: p.Word[sockmem.Pingpong] >= h.l.kind.dialogue(), congestion: p.Long[sockmem.CongestionOps],
	}
	if h.mem.Has(noCookie) {
		own.noCookie = s.Bits(noCookie)
	}
	own.ended = tcp.PeerClosed(int(p.Word[sockmem.State])) || p.Word[sockmem.State] == tcp.Closed
	return own, nil
}

// passedNames are the members of structures that are read.
func passedNames() []string {
	return append(sockmem.BesideNames(), "?"+noCookie, "?ipv6_txoptions", "?ipv6_txoptions.tot_len")
}

// noCookie is TCP_FASTOPEN_NO_COOKIE, which no connection can be given.
const noCookie = "tcp_sock.fastopen_no_cookie"

// What of SO_BUF_LOCK says that a size was set: SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK.
const (
	sndbufLocked = 1
	rcvbufLocked = 2
	sizesLocked  = sndbufLocked | rcvbufLocked
)

// of returns which options a client has that its listener hasn't, or why that can't be told.
func (h *passing) of(client []byte) ([]socket.Told, string, error) {
	memory := h.room
	clear(memory[copy(memory, client):])
	if why, err := h.setAside(memory); err != nil || why != "" {
		return nil, why, err
	}
	told, err := h.tell(memory)
	if err != nil {
		return nil, "", err
	}
	h.forget(&told)
	if h.mem.Has(noCookie) {
		h.mem.ClearBits(memory, noCookie)
	}
	k := h.l.kind
	copy(h.plain, memory)
	h.beside(h.plain, h.nobody)
	key := heritage{h.learnt.Of(h.plain), &h.l.opts.Values[0], told}
	d, known := k.passed[key]
	if !known {
		if d, err = h.find(bytes.Clone(memory), &told); err != nil {
			return nil, "", err
		}
		if k.passed == nil {
			k.passed = map[heritage]different{}
		}
		k.passed[key] = d
	}
	return d.options, d.why, nil
}

// setAside takes from a client's memory what it has from its listener and is no option, and
// says if the listener has something else by now.
func (h *passing) setAside(memory []byte) (string, error) {
	t := h.layout.TCP
	if why := h.setLabelAside(memory); why != "" {
		return why, nil
	}
	for _, p := range t.Passed {
		if !bytes.Equal(memory[p.At:p.At+p.Size], h.own[p.At:p.At+p.Size]) {
			return "the listener has got another filter, budget (SO_BUSY_POLL_BUDGET), address or interface to send from (IPV6_PKTINFO), size of packets (IPV6_MTU) or flow label since it came", nil
		}
		clear(memory[p.At : p.At+p.Size])
	}
	same, err := h.sameOwned(memory)
	if err != nil || !same {
		return "the listener has got other headers (IPV6_HOPOPTS, IPV6_RTHDR, …) or IPsec policies of its own since it came", err
	}
	for _, p := range []sockmem.Span{t.Policies, t.Charged} {
		clear(memory[p.At : p.At+p.Size])
	}
	t.Bare(memory)
	return "", nil
}

// sameOwned compares what each has of its own.
func (h *passing) sameOwned(memory []byte) (bool, error) {
	t := h.layout.TCP
	at := func(of []byte, p sockmem.Span, i int) kmem.Addr {
		return kmem.Addr(binary.NativeEndian.Uint64(of[p.At+i:]))
	}
	for i := 0; i+8 <= t.Policies.Size; i += 8 {
		same, err := h.alike(at(memory, t.Policies, i), at(h.own, t.Policies, i), func(p kmem.Addr) ([]byte, error) {
			index := make([]byte, 4)
			return index, h.mem.ReadAt(index, p+h.mem.Off("xfrm_policy.index"))
		})
		if err != nil || !same {
			return false, err
		}
	}
	if t.Headers.Size == 0 {
		return true, nil
	}
	return h.alike(at(memory, t.Headers, 0), at(h.own, t.Headers, 0), func(p kmem.Addr) ([]byte, error) {
		head, err := h.mem.Struct("ipv6_txoptions", p)
		if err != nil {
			return nil, err
		}
		size := kmem.Addr(head.U32("ipv6_txoptions.tot_len"))
		data := make([]byte, min(max(size, kmem.Addr(len(head.Bytes)))-kmem.Addr(len(head.Bytes)), mostHeaders))
		return data, h.mem.ReadAt(data, p+kmem.Addr(len(head.Bytes)))
	})
}

// mostHeaders is more than what goes with every packet has, in bytes.
const mostHeaders = 64 << 10

// alike compares what is at two addresses, where each may be 0.
func (h *passing) alike(a, b kmem.Addr, read func(kmem.Addr) ([]byte, error)) (bool, error) {
	if a == 0 || b == 0 {
		return a == b, nil
	}
	x, err := read(a)
	if err != nil {
		return false, err
	}
	y, err := read(b)
	return bytes.Equal(x, y), err
}

// forget forgets of what memory tells what the kernel has chosen.
func (h *passing) forget(told *passed) {
	locked := told.locks | h.told.locks
	if locked&rcvbufLocked == 0 {
		told.rcvbuf = 0
	}
	if locked&sndbufLocked == 0 {
		told.sndbuf = 0
	}
	if h.told.clamp == 0 { // a listener keeps one for good
		told.clamp = 0
	}
	if told.ended { // which makes it one
		told.dialogue = h.told.dialogue
	}
	told.ended = false
}

// find finds the options of a client.
func (h *passing) find(memory []byte, told *passed) (different, error) {
	if own := h.told.segment; told.segment != own && (told.segment == freshSegment || own == freshSegment) {
		return different{why: fmt.Sprintf("TCP_MAXSEG of the listener has been set to %d, or is so since it came, and the option doesn't tell that from one that nobody has set", freshSegment)}, nil
	}
	values, why, err := h.values(memory, told.segment)
	if err != nil || why != "" {
		return different{why: why}, err
	}
	all, err := h.named(told)
	if err != nil {
		return different{}, err
	}
	for i := range h.kernel.Table {
		if name := h.kernel.Table[i].Name; h.passes(name) {
			all = append(all, socket.Told{Name: name, Value: values[i]})
		}
	}
	d, listener := different{}, h.l.kind.kernels[h.l.sort]
	for _, x := range all {
		if v, ok := listener.Value(h.l.opts.Values, x.Name); ok && x.OK && v != x.Value {
			d.options = append(d.options, x)
		}
	}
	if len(d.options) == 0 {
		return d, nil
	}
	err = h.tryLending(d.options)
	if why := (errLone{}); errors.As(err, &why) {
		return different{why: why.Error()}, nil
	}
	return d, err
}

// values returns the options of a socket that has the same ones, but those that are told.
func (h *passing) values(memory []byte, segment uint16) ([]socket.Value, string, error) {
	const other = "the listener has got other options since it came, and which it had isn't found out"
	f := &fitted{
		Fitting: socket.Fitting{Alike: h.learnt, Want: memory}, sort: sort{family: h.l.family, protocol: unix.IPPROTO_TCP, connected: true},
		layout: h.layout.TCP, kernel: h.kernel, segment: segment,
	}
	f.device = h.mem.StructIn(memory).U32("sock_common.skc_bound_dev_if")
	err := f.prepare(h.mem)
	if why := (errLone{}); errors.As(err, &why) {
		return nil, other + " (" + why.Error() + ")", nil
	}
	if err != nil {
		return nil, "", err
	}
	listener := h.l.kind.kernels[h.l.sort]
	f.Begin(func(name string) (socket.Value, bool) {
		v, ok := listener.Value(h.l.opts.Values, name)
		return v, ok && h.passes(name)
	})
	n, err := f.Try()
	if err != nil || n < 0 {
		return nil, other, err
	}
	defer unix.Close(n)
	values := make([]socket.Value, len(h.kernel.Table))
	return values, "", h.kernel.Read(n, values)
}

// passes tells whether who is accepted has an option from its listener, which memory
// doesn't tell by name.
func (h *passing) passes(name string) bool {
	switch name {
	case "SO_PRIORITY", "SO_RESERVE_MEM", "TCP_DEFER_ACCEPT", "TCP_FASTOPEN": // a new one's, always
		return false
	case "SO_SNDBUF", "SO_RCVBUF", "SO_BUF_LOCK", "TCP_WINDOW_CLAMP", "TCP_CONGESTION", "TCP_QUICKACK", "TCP_FASTOPEN_NO_COOKIE", "IPV6_UNICAST_HOPS", "IPV6_V6ONLY":
		return false // see named
	}
	return true
}

// named returns the options of a client that memory tells by name, as far as they are
// others than the listener's.
func (h *passing) named(told *passed) (all []socket.Told, err error) {
	add := func(name string, v socket.Value) { all = append(all, socket.Told{Name: name, Value: v}) }
	own := &h.told
	if told.rcvbuf != 0 && (told.rcvbuf != own.rcvbuf || told.locks != own.locks) {
		add("SO_RCVBUF", socket.Uint(told.rcvbuf))
	}
	if told.sndbuf != 0 && (told.sndbuf != own.sndbuf || told.locks != own.locks) {
		add("SO_SNDBUF", socket.Uint(told.sndbuf))
	}
	if told.locks != own.locks {
		add("SO_BUF_LOCK", socket.Uint(told.locks))
	}
	if told.clamp != own.clamp {
		add("TCP_WINDOW_CLAMP", socket.Uint(told.clamp))
	}
	if told.dialogue != own.dialogue {
		quick := uint32(1)
		if told.dialogue {
			quick = 0
		}
		add("TCP_QUICKACK", socket.Uint(quick))
	}
	if told.noCookie != own.noCookie {
		add("TCP_FASTOPEN_NO_COOKIE", socket.Uint(told.noCookie))
	}
	if told.segment != own.segment {
		add("TCP_MAXSEG", h.segment(told.segment))
	}
	if told.hops != own.hops {
		hops, _ := h.kernel.Value(h.kernel.Fresh, "IPV6_UNICAST_HOPS")
		if told.hops <= mostHops {
			hops = socket.Uint(told.hops)
		}
		add("IPV6_UNICAST_HOPS", hops)
	}
	if told.congestion != own.congestion {
		var p sockmem.Picture
		p.Long[sockmem.CongestionOps] = told.congestion
		name, err := congestionOf(h.mem.Reader, &p)
		if err != nil {
			return nil, err
		}
		add("TCP_CONGESTION", name)
	}
	return all, nil
}

// segment is what TCP_MAXSEG of a listener tells.
func (h *passing) segment(n uint16) socket.Value {
	if n != 0 {
		return socket.Uint(uint32(n))
	}
	k := h.l.kind.kernels[h.l.sort]
	v, _ := k.Value(k.Fresh, "TCP_MAXSEG")
	return v
}

// tryLending makes sure that a listener can be lent options, by one that has the same
// ones: some can be set in one direction only.
func (h *passing) tryLending(other []socket.Told) error {
	l := h.l
	n, err := l.like()
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(n)
	own := address{ip: loopbackIP(l.family)}
	k := l.kind.kernels[l.sort]
	steps := []func() error{
		func() error { return k.Set(n, l.opts.Values, socket.Early, socket.Early) },
		func() error { return unix.Bind(n, own.sockaddr(l.family, 0)) },
		func() error { return k.Set(n, l.opts.Values, socket.Late, socket.Last) },
		func() error { return unix.Listen(n, 0) },
		func() error { return k.Set(n, l.opts.Values, socket.Opened, socket.Opened) },
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return fmt.Errorf("make a listener like that: %w", err)
		}
	}
	back, err := k.Lend(n, other)
	if err == nil {
		err = back()
	}
	if err != nil {
		return noLone("the listener has got other options since it came, which it can't be without for a while (%w)", err)
	}
	return nil
}
