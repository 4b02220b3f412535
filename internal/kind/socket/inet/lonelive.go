package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/options"
)

// Ends of connections that are only in messages which nobody can receive. The one that is
// dumped in its place is connected to nobody, in repair mode, so that nobody hears of it.
// What the kernel knows of the connection is read when its packets are held back. When the
// tree is about to be killed who can receive such messages does, and has the ends die
// silently, see the unix kind's End. Should the engine die before it comes to that, the lock
// has their peers hear of nothing, and what the kernel keeps of them goes with a restore, see
// destroyLeft.

// checkLive refuses an end of a connection in a state that can't be told.
func (o *lone) checkLive() error {
	if o.state == tcp.SynSent || o.state == tcp.SynRecv || o.state == tcp.TimeWait {
		return noLone("a TCP socket that is about to be connected")
	}
	return nil
}

// live tells whether it is an end of a connection.
func (o *lone) live() bool { return o != nil && tcp.Connected(o.state) }

// connected tells whether it is one, or was: options are found in the same way.
func (o *lone) connected() bool { return o.live() || o != nil && o.ended }

// toldLive are the options of a connection that knowLive tells of.
var toldLive = []string{"SO_SNDBUF", "SO_RCVBUF", "SO_BUF_LOCK", "TCP_WINDOW_CLAMP", "TCP_CONGESTION", "TCP_QUICKACK", "IPV6_UNICAST_HOPS", "IPV6_V6ONLY"}

// knownLive makes sure that all options are known that memory doesn't tell of by itself.
func (f *fitted) knownLive() error {
	for _, name := range f.Asked() {
		if !slices.Contains(toldLive, name) {
			return noLone("a connection of TCP, whose %s can't be told", name)
		}
	}
	return nil
}

// toldInside reads what a socket has by name in its memory.
func (k *Kind) toldInside(f *fitted) error {
	m, err := k.memory()
	if err != nil {
		return err
	}
	f.inside = m
	f.device = binary.NativeEndian.Uint32(f.Want[m.Off("sock_common.skc_bound_dev_if"):])
	if f.datagrams() {
		return nil
	}
	at := m.Off("tcp_sock.rx_opt") + m.Off("tcp_options_received.user_mss")
	f.segment = binary.NativeEndian.Uint16(f.Want[at:])
	var p sockmem.Picture
	f.layout.Picture.Picture(f.Want, &p)
	f.congestion, err = congestionOf(m, &p)
	return err
}

// congestionOf is what TCP_CONGESTION tells of a socket.
func congestionOf(m *kmem.Reader, p *sockmem.Picture) (socket.Value, error) {
	name, err := tcp.NewQueues(m).Congestion(kmem.Addr(p.Long[sockmem.CongestionOps]))
	if err != nil {
		return socket.Value{}, err
	}
	return socket.Value{Lo: binary.LittleEndian.Uint64(name), Hi: binary.LittleEndian.Uint64(name[8:]), OK: true}, nil
}

// beside is what of a socket's memory is no option.
func (f *fitted) beside(m *sockmem.Memory) (func(is, other []byte), error) {
	switch {
	case f.connected:
		return m.BesideConnected(f.layout, f.family == unix.AF_INET6)
	case f.datagrams():
		return m.BesideDatagrams(f.family == unix.AF_INET6)
	}
	return m.Beside()
}

// connect makes an end of a connection to nobody, in repair mode.
func (f *fitted) connect() (int, error) {
	n, err := f.like()
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	var p sockmem.Picture
	f.layout.Picture.Picture(f.Want, &p)
	set := func(level, opt int, v uint32) {
		if err == nil && v != 0 {
			err = unix.SetsockoptInt(n, level, opt, int(v))
		}
	}
	ip := loopbackIP(f.family)
	if f.family == unix.AF_INET6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, p.Word[sockmem.V6Only])
	}
	if err == nil {
		err = tcp.Repair().Set(n)
	}
	if err == nil {
		err = unix.Connect(n, address{ip, nobodys}.sockaddr(f.family, 0))
	}
	set(unix.IPPROTO_TCP, unix.TCP_MAXSEG, uint32(f.segment))
	if err == nil { // repair mode has set it
		err = unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("make an end of a connection: %w", err), unix.Close(n))
	}
	return n, nil
}

// picture takes a picture of a socket.
func (k *Kind) picture(sk kmem.Addr, p *sockmem.Picture) error {
	r, err := k.layout()
	if err != nil {
		return err
	}
	m, err := k.memory()
	if err != nil {
		return err
	}
	b := make([]byte, r.TCP.Size)
	if err := m.ReadAt(b, sk); err != nil {
		return err
	}
	if !r.TCP.Picture.Picture(b, p) {
		return fmt.Errorf("%w: a connection's state can't be told", kmem.ErrUnavailable)
	}
	return nil
}

// again looks which state the connection is in by now.
func (o *lone) again(l *look) error {
	if o.state == tcp.Listening {
		return l.fail(l.kind.listens(o, o.sk))
	}
	if !o.live() {
		return nil
	}
	var p sockmem.Picture
	if err := l.kind.picture(o.sk, &p); err != nil {
		return l.fail(err)
	}
	if o.state = int(p.Word[sockmem.State]); !o.live() { // just now
		o.peer, o.ended = address{}, true
	}
	return nil
}

// knowLive tells of options of the connection that its stand-in has not.
func (l *look) knowLive(k *socket.Kernel, values []socket.Value) error {
	o := l.loneOf()
	if !o.connected() {
		return nil
	}
	var p sockmem.Picture
	if err := l.kind.picture(o.sk, &p); err != nil {
		return err
	}
	m, err := l.kind.memory()
	if err != nil {
		return err
	}
	own, err := m.Struct("tcp_sock", o.sk)
	if err != nil {
		return err
	}
	if fresh, ok := k.Value(k.Fresh, "TCP_MAXSEG"); ok && o.ended {
		if n := own.In("tcp_sock.rx_opt").U16("tcp_options_received.user_mss"); n != 0 {
			fresh = socket.Uint(uint32(n))
		}
		k.Know(values, "TCP_MAXSEG", fresh)
	}
	congestion, err := congestionOf(m, &p)
	if err != nil {
		return err
	}
	for at, w := range map[string]sockmem.Word{"SO_SNDBUF": sockmem.Sndbuf, "SO_RCVBUF": sockmem.Rcvbuf, "TCP_WINDOW_CLAMP": sockmem.WindowClamp} {
		k.Know(values, at, socket.Uint(p.Word[w]))
	}
	k.Know(values, "TCP_CONGESTION", congestion)
	quick := uint32(0)
	if p.Word[sockmem.Pingpong] < l.kind.dialogue() {
		quick = 1
	}
	k.Know(values, "TCP_QUICKACK", socket.Uint(quick))
	const sizes = 3 // SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK
	k.Know(values, "SO_BUF_LOCK", socket.Uint(own.Bits("sock.sk_userlocks")&sizes))
	if l.family == unix.AF_INET6 {
		k.Know(values, "IPV6_V6ONLY", socket.Uint(p.Word[sockmem.V6Only]))
		if hops := p.Word[sockmem.HopLimit]; hops <= mostHops { // else it is the route's
			k.Know(values, "IPV6_UNICAST_HOPS", socket.Uint(hops))
		}
	}
	return nil
}

// dialogue is from where on one has acknowledgements wait.
func (k *Kind) dialogue() uint32 {
	if k.pingpong == 0 {
		k.pingpong = max(1, pingpongLimit())
	}
	return k.pingpong
}

// pingpongLimit is dialogue as the machine has it: a sysctl since Linux 6.7, and 1 before.
func pingpongLimit() uint32 {
	text, err := fd.ReadFile("/proc/sys/net/ipv4/tcp_pingpong_thresh")
	if err != nil {
		return 1
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 1
	}
	return uint32(n)
}

// checkLoneLive is checkConnection for such a one.
func (l *look) checkLoneLive(o *lone) error {
	if lock := l.env.Options; lock.NetworkLock == options.NetworkLockSkip && !lock.LeaveRunning && !lock.LeaveStopped {
		return l.refuse("the connection is only in messages that nobody can receive, and the kernel would end it with the tree, unless packets are held back: do without --network-lock skip")
	}
	var p sockmem.Picture
	if err := l.kind.picture(o.sk, &p); err != nil {
		return l.fail(err)
	}
	const receiving = 1 // RCV_SHUTDOWN
	if p.Word[sockmem.Shutdown]&receiving != 0 && !tcp.PeerClosed(l.state) {
		l.shutdown = 1 << unix.SHUT_RD
	}
	return nil
}

// readLoneLive is readStream for such a one.
func (l *look) readLoneLive(o *lone) (*tcp.Stream, error) {
	m, err := l.kind.memory()
	if err != nil {
		return nil, l.fail(err)
	}
	s, err := tcp.NewQueues(m).Held(o.sk, func(p *sockmem.Picture) error { return l.kind.picture(o.sk, p) })
	if errors.Is(err, tcp.ErrHeld) {
		return nil, l.refuse("the connection is only in messages that nobody can receive, and %v; let the server accept them", err)
	}
	return s, l.fail(err)
}

// holdLate holds back the packets of connections that only messages have, which were not
// known of when the others' were: of all that are known by now.
func (k *Kind) holdLate(env *kind.DumpEnv) error {
	var more []netlock.Flow
	for ; k.late < len(env.Tree.Files); k.late++ {
		f := env.Tree.Files[k.late]
		if f.Within == nil || !k.Match(f) {
			continue
		}
		flows, err := k.Flows(env, f)
		if err != nil {
			return err
		}
		more = append(more, k.unheld(flows)...)
	}
	if len(more) == 0 {
		return nil
	}
	return env.Hold(more)
}
