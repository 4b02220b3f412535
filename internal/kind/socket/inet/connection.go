package inet

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/internal/sockmem"
)

// shutBoth is a socket that is shut down in both directions, as images have it.
const shutBoth = 3

// noConnections is what criu says of connections that it wasn't told to expect.
const noConnections = "Connected TCP socket, consider using --tcp-established option."

// Flows implements kind.Locker.
func (k *Kind) Flows(env *kind.DumpEnv, f *scan.File) ([]netlock.Flow, error) {
	if flows, known, err := k.flowsSeen(env, f); known || err != nil {
		return flows, err
	}
	if k.udpGroupOf(env, f) != nil {
		return nil, nil
	}
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l := &look{kind: k, env: env, file: f, fd: d}
	l.family = int(f.Family)
	if l.protocol, err = k.protocolOf(l); err != nil {
		return nil, l.fail(fmt.Errorf("read SO_PROTOCOL: %w", err))
	}
	if !l.tcpLike() {
		return nil, nil
	}
	err = l.lookTCP()
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT) {
		return nil, nil // a raw socket
	}
	if err != nil {
		return nil, err
	}
	if l.tcp.State == tcp.Listening {
		flows, err := l.waitingFlows()
		if f.Within == nil { // else see holdLate
			k.unheld(flows)
		}
		return flows, err
	}
	if !l.live() || env.Options.TCPClose {
		return nil, nil
	}
	if err := l.addresses(); err != nil {
		return nil, err
	}
	if err := l.checkAllowed(); err != nil {
		return nil, err
	}
	if l.tcp.State != tcp.SynSent && l.at.set() && l.peer.set() {
		if k.ends == nil {
			k.ends = map[*scan.File][2]address{}
		}
		k.ends[f] = [2]address{l.at, l.peer}
	}
	return []netlock.Flow{{Protocol: unix.IPPROTO_TCP, Local: l.at.addrPort(), Remote: l.peer.addrPort()}}, nil
}

// flowsSeen is Flows by what the kernel's memory tells, if that is known.
func (k *Kind) flowsSeen(env *kind.DumpEnv, f *scan.File) (flows []netlock.Flow, known bool, err error) {
	if k.groupOf(env, f) == nil || k.alike.memory.TCP.Picture == nil {
		return nil, false, nil
	}
	p := &k.glimpse(f).picture
	switch p.Word[sockmem.State] {
	case tcp.Closed:
		return nil, true, nil
	case tcp.Established:
	default:
		return nil, false, nil
	}
	if env.Options.TCPClose || !env.Options.TCPEstablished || !hasEnds(p) {
		return nil, false, nil
	}
	local, remote := p.Ends()
	return []netlock.Flow{{Protocol: unix.IPPROTO_TCP, Local: plain(local), Remote: plain(remote)}}, true, nil
}

// protocolOf tells which protocol a socket speaks.
func (k *Kind) protocolOf(l *look) (int, error) {
	if k.groupOf(l.env, l.file) != nil { // only those of TCP have one
		return unix.IPPROTO_TCP, nil
	}
	return unix.GetsockoptInt(l.fd.Int(), unix.SOL_SOCKET, unix.SO_PROTOCOL)
}

// checkAllowed makes sure that the user expects connections.
func (l *look) checkAllowed() error {
	if !l.env.Options.TCPEstablished {
		return l.refuse(noConnections)
	}
	return nil
}

// checkConnection refuses what can't be carried over of a connection.
func (l *look) checkConnection() error {
	l.state = l.tcp.State
	if l.env.Options.TCPClose {
		if l.state == tcp.SynSent { // its peer isn't known
			l.state, l.at, l.shutdown = closed, address{}, shutBoth
		}
		return nil
	}
	if err := l.checkAllowed(); err != nil {
		return err
	}
	if l.state == tcp.SynRecv {
		return l.refuse("a connection that came with its first data and isn't made yet (TCP_FASTOPEN) can't be saved; wait until it is")
	}
	if o := l.loneOf(); o != nil {
		return errors.Join(l.checkLoneLive(o), l.checkLoneCookies(o))
	}
	p := []unix.PollFd{{Fd: int32(l.fd.Int()), Events: unix.POLLIN | unix.POLLRDHUP | unix.POLLPRI}}
	if _, err := linux.PollNow(p); err != nil {
		return l.fail(fmt.Errorf("poll: %w", err))
	}
	switch {
	case p[0].Revents&unix.POLLERR != 0:
		return l.refuse("an error, a time stamp or the end of a transmission waits to be reported (SO_ERROR, MSG_ERRQUEUE), which isn't supported yet; let the process read it first")
	case p[0].Revents&unix.POLLRDHUP != 0 && !tcp.PeerClosed(l.state):
		l.shutdown = 1 << unix.SHUT_RD
	}
	l.readable, l.urgent = p[0].Revents&unix.POLLIN != 0, p[0].Revents&unix.POLLPRI != 0
	why, err := "", error(nil)
	if !l.alike() {
		why, err = tcp.Upper(l.fd.Int())
	}
	if err == nil && why == "" && l.value("TCP_SAVE_SYN") != 0 {
		why, err = tcp.KeptSyn(l.fd.Int())
	}
	if err == nil && why != "" {
		return l.refuse("%s", why)
	}
	if err != nil {
		return l.fail(err)
	}
	return l.readCookies()
}

// errChanged says that a socket is in another state than before.
var errChanged = errors.New("the connection changes its state")

// putStream writes the queues and numbers of a connection. It is in repair mode
// no longer than it takes to read them.
func (l *look) putStream() error {
	if !l.live() || l.env.Options.TCPClose {
		return nil
	}
	if o := l.loneOf(); o != nil {
		s, err := l.readLoneLive(o)
		if err == nil && s.State != l.state {
			err = errChanged
		}
		if err != nil {
			return err
		}
		return l.keepStream(s)
	}
	back := l.back()
	if err := l.env.Guard.Back(l.file, back...); err != nil {
		return l.fail(err)
	}
	s, err := l.readStream()
	for _, o := range back {
		err = errors.Join(err, o.SetBack(l.fd.Int()))
	}
	if errors.Is(err, tcp.ErrEarlyData) {
		return l.refuse("%v, which isn't supported yet; wait until it is connected", tcp.ErrEarlyData)
	}
	if err == nil && l.urgent {
		err = l.readUrgent(s)
	}
	if err != nil {
		return l.fail(err)
	}
	if s.State != l.state {
		return errChanged
	}
	if err := l.env.Guard.Leave(l.file, tcp.Repair()); err != nil {
		return l.fail(err)
	}
	l.learnStill(s)
	return l.keepStream(s)
}

// keepStream writes what was read of a connection.
func (l *look) keepStream(s *tcp.Stream) error {
	l.pace, l.mark, l.came = s.Pace, s.Mark, s.Came
	if s.Sent != 0 {
		l.sent = s.Sent
	}
	if err := l.putLocal(); err != nil {
		return l.fail(err)
	}
	return l.kind.putterOfNext()(l.env.Images, image.TCPStream, s.Entry, s.Queues, uint32(l.file.Stat.Ino))
}

// back is what undoes the changes that a reading needs.
func (l *look) back() []linux.SockOpt {
	back := tcp.Quiet(int(l.value("SO_REUSEADDR")))
	if off, ok := l.peekOff(); ok && (off >= 0 || l.readable) {
		back = append(back, linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_PEEK_OFF, Value: off})
	}
	return back
}

// peekOff returns SO_PEEK_OFF, if the kernel has that for TCP (Linux 6.9).
func (l *look) peekOff() (int, bool) {
	v, ok := l.kind.kernels[l.sort].Value(l.opts.Values, "SO_PEEK_OFF")
	return int(int32(v.Lo)), ok
}

// readSent finds out what is urgent of what was sent, if the kernel's memory tells.
func (l *look) readSent(s *tcp.Stream) error {
	m, err := l.kind.memory()
	if err != nil {
		return nil //nolint:nilerr // see docs/limits.md
	}
	return tcp.NewQueues(m).ReadSent(l.fd.Int(), s)
}

// readUrgent reads what waits to be read where urgent data is among it.
func (l *look) readUrgent(s *tcp.Stream) error {
	m, err := l.kind.memory()
	if err != nil {
		return l.refuse("urgent data waits to be read (MSG_OOB), and what else can't be known (%v); let the process read it first", err)
	}
	return tcp.NewQueues(m).Marked(l.fd.Int(), s)
}

func (l *look) readStream() (*tcp.Stream, error) {
	off, ok := l.peekOff()
	if ok && off >= 0 { // else peeking would begin there, and move it
		off := linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_PEEK_OFF, Value: -1}
		if err := off.Set(l.fd.Int()); err != nil {
			return nil, err
		}
	}
	if err := tcp.Repair().Set(l.fd.Int()); err != nil {
		return nil, fmt.Errorf("enter repair mode (it needs CAP_NET_ADMIN): %w", err)
	}
	s, err := tcp.Read(l.fd.Int(), l.urgent)
	if err == nil && s.Entry.GetOutqLen() > 0 {
		err = l.readSent(s)
	}
	if err == nil && s.Pace.ECN != 0 {
		m, _ := l.kind.memory() // nil where it can't be read, see docs/limits.md
		err = s.ReadECN(m, l.fd.Int())
	}
	if err == nil {
		s.Came, err = l.readCame()
	}
	if err != nil || !ok || !l.readable || l.urgent {
		return s, err
	}
	l.urgent, err = tcp.Beyond(l.fd.Int(), int(s.Entry.GetInqLen()))
	return s, err
}

// planConnection decides whether a connection comes back as one.
func (n *node) planConnection(p *plan.Plan) error {
	if n.cut = p.Options.TCPClose; n.cut {
		return nil
	}
	if !p.Options.TCPEstablished {
		return fmt.Errorf("%s from %v to %v in image, consider using --tcp-established option", socket.StateName(int(n.entry.state)), n.at, n.peer)
	}
	return nil
}

// besides is what is known of a connection besides its stream's image. Most have
// nothing: nil.
type besides struct {
	pace   *tcp.Pace
	sent   uint32
	urgent *extra.Urgent
	came   tcp.Came
}

// planBesides checks what criu's entries have no place for of a connection.
func (n *node) planBesides(x *extra.SocketEntry) error {
	pace, err := tcp.ParsePace(x.GetPace())
	if err != nil || pace == nil && x.GetSentUrgent() == 0 && x.GetUrgent() == nil && x.GetCame() == nil {
		return err
	}
	came, err := tcp.ParseCame(x.GetCame())
	if err != nil {
		return err
	}
	if came.Told() && (n.family != unix.AF_INET6 || !n.peer.addrPort().Addr().Is6()) {
		return errors.New("that a segment of IPv6 came can't be")
	}
	n.besides = &besides{pace, x.GetSentUrgent(), x.GetUrgent(), came}
	return nil
}

// complete adds it to the stream.
func (t *besides) complete(s *tcp.Stream) error {
	if t == nil {
		return nil
	}
	s.Pace, s.Came = t.pace, t.came
	if s.Sent = t.sent; s.Sent > s.Entry.GetOutqLen() {
		return fmt.Errorf("byte %d is urgent, and %d bytes are to be sent or acknowledged: that can't be", s.Sent, s.Entry.GetOutqLen())
	}
	if t.urgent == nil {
		return nil
	}
	s.Mark = &tcp.Mark{Offset: t.urgent.GetOffset(), Read: t.urgent.GetRead()}
	if s.Mark.Offset >= s.Entry.GetInqLen() {
		return fmt.Errorf("urgent data at %d, and %d bytes wait to be read: that can't be", s.Mark.Offset, s.Entry.GetInqLen())
	}
	return nil
}

// peerOfConnecting finds out where a socket connects to: getpeername(2) doesn't
// tell before it is connected.
func (l *look) peerOfConnecting() error {
	q := sockdiag.InetQuery{Family: uint8(l.family), Protocol: unix.IPPROTO_TCP, States: 1 << tcp.SynSent, Port: l.at.port}
	return l.diag(func(c *sockdiag.Conn) error {
		return l.fail(c.EachInet(q, func(s *sockdiag.Inet) error {
			if s.Ino == uint32(l.file.Stat.Ino) {
				l.peer = address{s.Dst.Addr(), s.Dst.Port()}
			}
			return nil
		}))
	})
}

// joins tells whether its peer may come back, too.
func (n *node) joins() bool { return n.live() && n.entry.state != tcp.SynSent }

func (k *Kind) count(is func(*node) bool) (n int) {
	for _, one := range k.nodes {
		if is(one) {
			n++
		}
	}
	return n
}

// waitFor has an end that hears a FIN while it is made come after its peer: it
// answers, and a peer that isn't there would have the kernel reset it, if no
// packets are held back.
func (n *node) waitFor(peer *node) {
	if n.hears() && !peer.hears() {
		n.needs = append(slices.Clip(n.needs), peer.id)
	}
}

// hears tells whether an end is sent a segment while it is made.
func (n *node) hears() bool { return tcp.PeerClosed(n.stream.State) || n.stream.Mark != nil }

// Flows implements plan.Locked.
func (n *node) Flows(flows []netlock.Flow) []netlock.Flow {
	if n.datagrams() {
		if f, ok := portFlow(n.sort, n.at, n.number); ok {
			flows = append(flows, f)
		}
		return flows
	}
	if !n.live() {
		for _, w := range n.few().waiting {
			flows = append(flows, flowOf(w))
		}
		return flows
	}
	return append(flows, netlock.Flow{Protocol: unix.IPPROTO_TCP, Local: n.at.addrPort(), Remote: n.peer.addrPort()})
}

// Resumes implements plan.Resumer: in repair mode until then, or with options that let
// others have its address.
func (n *node) Resumes() bool { return n.joins() || n.beside || n.lenient }

// Resume implements plan.Resumer.
func (n *node) Resume() []linux.SockOpt {
	if !n.joins() {
		return n.settled()
	}
	return n.stream.Resume(n.number("SO_REUSEADDR"), !n.joined)
}

// number returns the value that an option is to have.
func (n *node) number(name string) int {
	v, _ := n.load.Of(n.opts, name)
	return int(int32(v.Lo))
}

// errSource says that the kernel chose another local address.
var errSource = errors.New("another local address was chosen")

// leavesWide tells whether to bind what is connected to its port alone, and let the
// kernel choose the address: to bind to an address of IPv6 sets IPV6_V6ONLY for
// good, which one has that was accepted, or bound by connect(2), does not.
func (n *node) leavesWide() bool {
	if n.autobound() {
		return true
	}
	connected := n.live() || n.ended != nil
	if n.datagrams() && n.peer.set() && !n.cut {
		if connected = true; n.lent() {
			return true
		}
	}
	return connected && n.family == unix.AF_INET6 && !n.at.ip.Is4In6() && n.number("IPV6_V6ONLY") == 0
}

// beginConnecting has a socket with its numbers connect in earnest, and not wait
// for it. What it sends is held back, and sent again within a second.
func (n *node) beginConnecting(own int) error {
	for _, o := range tcp.Quiet(n.number("SO_REUSEADDR")) {
		if err := o.Set(own); err != nil {
			return err
		}
	}
	if err := unix.SetNonblock(own, true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	return nil
}

func (n *node) endConnecting(own *fd.FD) error {
	if err := unix.SetNonblock(own.Int(), false); err != nil {
		return fmt.Errorf("reset O_NONBLOCK: %w", err)
	}
	return n.flags(own)
}

// checkSource makes sure that the kernel chose the right address.
func (n *node) checkSource(own int) error {
	sa, err := unix.Getsockname(own)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	if got := decode(sa); got != n.at {
		return fmt.Errorf("%w: %v", errSource, got)
	}
	return nil
}
