package inet

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/options"
)

// leavesOut tells whether connections that nobody has accepted yet are not to
// come back.
func (l *look) leavesOut() bool { return l.env.Options.SkipInFlight || l.env.Options.TCPClose }

// waitingFlows returns the flows of the connections that wait at a listener.
func (l *look) waitingFlows() ([]netlock.Flow, error) {
	if l.leavesOut() {
		return nil, nil
	}
	if err := l.countDeferred(); err != nil || l.tcp.Waiting+l.deferred == 0 {
		return nil, err
	}
	if err := l.checkWaiting(); err != nil {
		return nil, err
	}
	return l.readWaiting(false)
}

// checkWaiting refuses connections that can't be put back into the listener's
// queue.
func (l *look) checkWaiting() error {
	why, e := l.whyNot(), &extra.SocketEntry{}
	if err := l.readReflects(l.fd.Int(), e); err != nil {
		return l.fail(err)
	}
	if why == "" && e.GetReflects() && l.deferred > 0 {
		why = "their first data is waited for (TCP_DEFER_ACCEPT), and they are to be answered with the flow labels of that (IPV6_FL_F_REFLECT), which nobody knows yet; let the server accept them, or give --skip-in-flight"
	}
	if why != "" {
		return l.refuse("%s: %s", socket.Unaccepted(l.tcp.Waiting+l.deferred), why)
	}
	return nil
}

// countDeferred finds out how many clients wait whose first data the listener waits
// for (TCP_DEFER_ACCEPT), or the end of whose handshake.
func (l *look) countDeferred() error {
	v, err := unix.GetsockoptInt(l.fd.Int(), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT) {
		return nil // Multipath TCP doesn't take it on this kernel, either
	}
	if err != nil {
		return l.fail(fmt.Errorf("read TCP_DEFER_ACCEPT: %w", err))
	}
	if v == 0 {
		return nil
	}
	at := l.at
	if o := l.loneOf(); o != nil {
		at = o.at
	} else if sa, err := unix.Getsockname(l.fd.Int()); err == nil {
		at = decode(sa)
	} else {
		return l.fail(fmt.Errorf("getsockname: %w", err))
	}
	return l.diag(func(c *sockdiag.Conn) error {
		n, err := tcp.Half(c, at.port)
		l.deferred = n
		return l.fail(err)
	})
}

// whyNot tells why what waits can't be put back; nothing if it can.
func (l *look) whyNot() string {
	o, why := l.env.Options, ""
	switch {
	case !o.TCPEstablished:
		why = "consider using --tcp-established, or --skip-in-flight, which leaves them out"
	case o.NetworkLock == options.NetworkLockSkip && !o.LeaveRunning && !o.LeaveStopped:
		why = "the kernel resets them when the listener is gone, unless packets are held back: do without --network-lock skip, or give --skip-in-flight"
	case len(l.keys) > 0:
		why = "what is sent to them must be signed (TCP_MD5SIG), and they can't be put back; let the server accept them, or give --skip-in-flight"
	case l.protocol == unix.IPPROTO_MPTCP:
		why = "the kernel can't put those of Multipath TCP back; let the server accept them, or give --skip-in-flight"
	}
	if why != "" {
		return why
	}
	if err := l.kind.admits(); err != nil {
		return fmt.Sprintf("%v; let the server accept them, or give --skip-in-flight", err)
	}
	return ""
}

// readWaiting reads the connections that wait at the listener and returns their flows: wholly
// when nothing comes any more, before that briefly, without options and what is in queues.
func (l *look) readWaiting(wholly bool) ([]netlock.Flow, error) {
	m, err := l.kind.memory()
	if err != nil {
		return nil, l.refuse("%s: %v; let the server accept them, or give --skip-in-flight", socket.Unaccepted(l.tcp.Waiting+l.deferred), err)
	}
	sk, err := l.sock(m)
	if err != nil {
		return nil, l.fail(err)
	}
	q := tcp.NewQueues(m)
	if q.Brief = !wholly; wholly && l.tcp.Waiting > 0 {
		if err := l.asksOptions(q, m, sk); err != nil {
			return nil, err
		}
	}
	all, err := q.Of(sk)
	if err == nil && l.deferred > 0 {
		var more []*tcp.Waiting
		more, err = q.Deferred(sk)
		all = append(all, more...)
	}
	if errors.Is(err, tcp.ErrWaiting) {
		return nil, l.refuse("%v; let the server accept it, or give --skip-in-flight", err)
	}
	if err != nil {
		return nil, l.fail(err)
	}
	for _, w := range all {
		is, err := l.kind.isForeign(abroad{familyOf(w.Local.Addr()), w.Local.Addr(), w.Device})
		if is {
			return nil, l.refuse("%s, one at %v: %s; let the server accept it, or give --skip-in-flight", socket.Unaccepted(len(all)), w.Local.Addr(), whyAway)
		}
		if err != nil {
			return nil, l.fail(err)
		}
	}
	l.waiting = all
	var flows []netlock.Flow
	for _, w := range all {
		flows = append(flows, flowOf(w))
	}
	return flows, nil
}

// asksOptions has the options of what waits read, too.
func (l *look) asksOptions(q *tcp.Queues, m *kmem.Reader, sk kmem.Addr) error {
	h, err := l.passesOn(m, sk)
	if errors.Is(err, kmem.ErrUnavailable) {
		return l.refuse("%s, with options that can't be told (%v); let the server accept them, or give --skip-in-flight", socket.Unaccepted(l.tcp.Waiting), err)
	}
	if err != nil {
		return l.fail(err)
	}
	q.Options, q.Struct = h.of, "tcp_sock"
	if l.family == unix.AF_INET6 {
		q.Struct = "tcp6_sock"
	}
	q.Reflects = h.reflecting != nil
	return nil
}

// whyAway says why a connection can't be put back at an address, which rules (tproxy) brought to
// the listener by a mark: only the kernel's own path over the loopback interface is known.
const whyAway = "this machine doesn't have that address, and nobody could put it back there"

func familyOf(ip netip.Addr) int {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func flowOf(w *tcp.Waiting) netlock.Flow {
	return netlock.Flow{Protocol: unix.IPPROTO_TCP, Local: w.Local, Remote: w.Remote}
}

// dumpWaiting writes the connections that wait at the listener. Those that came
// since its packets were locked are locked now, and read again.
func (l *look) dumpWaiting() error {
	if l.leavesOut() {
		return nil
	}
	if err := l.countDeferred(); err != nil || l.tcp.Waiting+l.deferred == 0 {
		return err
	}
	if err := l.checkWaiting(); err != nil {
		return err
	}
	for range changes {
		flows, err := l.readWaiting(true)
		if err != nil {
			return err
		}
		more := l.kind.unheld(flows)
		if len(more) == 0 {
			return l.putWaiting()
		}
		if err := l.env.Hold(more); err != nil {
			return l.fail(err)
		}
	}
	return errChanged
}

// unheld returns the flows that are not locked yet, and takes them for locked.
func (k *Kind) unheld(flows []netlock.Flow) (more []netlock.Flow) {
	for _, f := range flows {
		if !k.held[f] {
			more = append(more, f)
			k.hold(f)
		}
	}
	return more
}

// hold notes that a flow is locked.
func (k *Kind) hold(f netlock.Flow) {
	if k.held == nil {
		k.held = map[netlock.Flow]bool{}
	}
	k.held[f] = true
}

// putWaiting writes those that aren't written yet. Of clients that come from one port, one
// after the other, all but the last have been reset: they are counted.
func (l *look) putWaiting() error {
	seen := map[netlock.Flow]int{}
	for _, w := range l.waiting {
		if seen[flowOf(w)]++; seen[flowOf(w)] <= l.written[flowOf(w)] {
			continue
		}
		stream, err := proto.Marshal(w.Entry)
		if err != nil {
			return l.fail(err)
		}
		n := func(v int) *uint32 { return proto.Uint32(uint32(v)) }
		e := &extra.WaitingTCP{
			Listener: &l.file.ID, Local: w.Local.Addr().AsSlice(), LocalPort: n(int(w.Local.Port())),
			Remote: w.Remote.Addr().AsSlice(), RemotePort: n(int(w.Remote.Port())), State: n(w.State), Stream: stream, Unread: w.Queues,
		}
		if w.Err != 0 {
			e.Error = n(int(w.Err))
		}
		if w.Echo != 0 {
			e.Echo = &w.Echo
		}
		if w.Device != "" {
			e.Interface = &w.Device
		}
		if w.Came.Told() {
			e.FlowInfo, e.Hops = &w.Came.Flow, &w.Came.Hops
		}
		if w.Deferred {
			e.Deferred = &w.Deferred
		}
		if w.Half {
			e.Half = &w.Half
		}
		if w.Mark != nil {
			e.Urgent = &w.Mark.Offset
		}
		for _, x := range w.Options {
			e.Options = append(e.Options, l.kind.kernels[l.sort].Table.EntryOf(x))
		}
		if err := l.env.Images.Put(extra.TCPWaiting, e, nil); err != nil {
			return err
		}
		if l.written == nil {
			l.written = map[netlock.Flow]int{}
		}
		l.written[flowOf(w)]++
	}
	return nil
}

// readWaiting reads what putWaiting wrote.
func (k *Kind) readWaiting(src plan.Source) error {
	k.waiting = map[plan.ID][]*extra.WaitingTCP{}
	more, err := src.Entries(extra.TCPWaiting)
	for _, m := range more {
		e := m.Message.(*extra.WaitingTCP)
		k.waiting[plan.ID(e.GetListener())] = append(k.waiting[plan.ID(e.GetListener())], e)
	}
	return err
}

// checkListeners makes sure that whatever waits has a listener.
func (k *Kind) checkListeners() error {
	if len(k.waiting) == 0 && len(k.datagrams) == 0 {
		return nil
	}
	known := map[plan.ID]bool{}
	for _, n := range k.nodes {
		known[n.id] = true
	}
	for id := range k.waiting {
		if !known[id] {
			return fmt.Errorf("%s: connections wait at file %#x, which is no socket", extra.TCPWaiting.Pattern, id)
		}
	}
	for id := range k.datagrams {
		if !known[id] && !k.pings[id] {
			return fmt.Errorf("%s: datagrams wait at file %#x, which is no socket", extra.Datagrams.Pattern, id)
		}
	}
	return nil
}

// planWaiting checks the connections that wait at a listener.
func (n *node) planWaiting(p *plan.Plan) error {
	all := n.kind.waiting[n.id]
	if len(all) == 0 || p.Options.TCPClose {
		return nil
	}
	if !n.listens() || n.protocol != unix.IPPROTO_TCP {
		return errors.New("connections wait at it to be accepted, and it doesn't listen: that can't be")
	}
	if !p.Options.TCPEstablished {
		return fmt.Errorf("%s, consider using --tcp-established option", socket.Unaccepted(len(all)))
	}
	for _, e := range all {
		w, err := n.parseWaiting(e)
		if err != nil {
			return fmt.Errorf("%s: %w", extra.TCPWaiting.Pattern, err)
		}
		n.give(func(m *more) { m.waiting = append(m.waiting, w) })
	}
	return nil
}

func (n *node) parseWaiting(e *extra.WaitingTCP) (*tcp.Waiting, error) {
	local, ok := netip.AddrFromSlice(e.GetLocal())
	remote, ok2 := netip.AddrFromSlice(e.GetRemote())
	if !ok || !ok2 || local.Is4() != remote.Is4() || local.Is6() && n.family == unix.AF_INET || local.Is4In6() || remote.Is4In6() {
		return nil, fmt.Errorf("a connection between addresses of %d and %d bytes can't be", len(e.GetLocal()), len(e.GetRemote()))
	}
	// Rules (tproxy) and programs (BPF_PROG_TYPE_SK_LOOKUP) bring a listener what is for other ports.
	if port := func(n uint32) bool { return n > 0 && n <= math.MaxUint16 }; !port(e.GetLocalPort()) || !port(e.GetRemotePort()) {
		return nil, fmt.Errorf("a connection between ports %d and %d can't be", e.GetLocalPort(), e.GetRemotePort())
	}
	state, failure := int(e.GetState()), unix.Errno(e.GetError())
	switch {
	case failure == 0 && (state == tcp.Established || state == tcp.CloseWait):
	case state == tcp.Closed && (failure == unix.ECONNRESET || failure == unix.EPIPE):
	default:
		return nil, fmt.Errorf("a connection in state %s that waits, with error %d, can't be", socket.StateName(state), e.GetError())
	}
	came, err := n.parseCame(e, remote)
	if err != nil {
		return nil, err
	}
	stream := &tcp_stream.TcpStreamEntry{}
	if err := proto.Unmarshal(e.GetStream(), stream); err != nil {
		return nil, err
	}
	if stream.GetOutqLen() != 0 {
		return nil, errors.New("something is to be sent to a connection that wasn't accepted: that can't be")
	}
	s, err := tcp.Parse(state, stream, e.GetUnread())
	if err == nil && e.Urgent != nil {
		if s.Mark = (&tcp.Mark{Offset: e.GetUrgent()}); e.GetUrgent() >= uint32(len(e.GetUnread())) {
			err = fmt.Errorf("byte %d of %d can't be urgent", e.GetUrgent(), len(e.GetUnread()))
		}
	}
	if err != nil {
		return nil, err
	}
	s.Came = came
	options, err := n.kind.loader(n.sort).Table.ToldBy(e.GetOptions())
	return &tcp.Waiting{
		Options: options,
		Stream:  s, Local: netip.AddrPortFrom(n.kind.moveIP(local), uint16(e.GetLocalPort())), Remote: netip.AddrPortFrom(remote, uint16(e.GetRemotePort())),
		Err: failure, Echo: e.GetEcho(), Device: e.GetInterface(), Deferred: e.GetDeferred(), Half: e.GetHalf(),
	}, err
}

// checkWaiting makes sure that the connections that wait can come back.
func (n *node) checkWaiting() error {
	if len(n.few().waiting) == 0 {
		return nil
	}
	for _, w := range n.few().waiting {
		is, err := n.kind.isForeign(abroad{familyOf(w.Local.Addr()), w.Local.Addr(), w.Device})
		if is {
			err = fmt.Errorf("file %#x, %v: %s, one at %v: %s; add it", n.id, n, socket.Unaccepted(len(n.few().waiting)), w.Local.Addr(), whyAway)
		}
		if err != nil {
			return err
		}
		end := *n
		end.at, end.peer = n.addressOf(w.Local), n.addressOf(w.Remote)
		if w.Device != "" && linkLocal(end.at) {
			end.entry.ifname = w.Device
		}
		if err := end.checkPath(); err != nil {
			return err
		}
	}
	if err := n.kind.admits(); err != nil {
		return fmt.Errorf("file %#x, %v: %s: %w", n.id, n, socket.Unaccepted(len(n.few().waiting)), err)
	}
	return nil
}

// addressOf is the inverse of addrPort.
func (n *node) addressOf(a netip.AddrPort) address {
	if n.family == unix.AF_INET6 {
		return address{netip.AddrFrom16(a.Addr().As16()), a.Port()}
	}
	return address{a.Addr(), a.Port()}
}

// admit puts the connections that wait into the queue of the listener.
func (n *node) admit(own int) (err error) {
	k := n.kind
	if n.listens() && (n.number("SO_REUSEPORT") != 0 || n.beside) {
		k.sharing[n.shares()]++
	}
	if len(n.few().waiting) == 0 {
		return n.lock(own)
	}
	if k.admitter == nil {
		if k.admitter, err = tcp.NewAdmitter(); err != nil {
			return fmt.Errorf("put %d connections back that wait to be accepted: %w", len(n.few().waiting), err)
		}
	}
	backlog := int(n.entry.backlog)
	if len(n.few().waiting) > backlog { // it was larger once: may it be so here?
		if err := tcp.Listen(own, len(n.few().waiting)); err != nil {
			return err
		}
	}
	// Others come as well from now on, and would take the room.
	if err := unix.Listen(own, len(n.few().waiting)+newcomers); err != nil {
		return fmt.Errorf("listen with a long queue for a moment: %w", err)
	}
	err = n.choosing(own, func() error { return n.admitAll(own) })
	if err != nil {
		return err
	}
	return tcp.Listen(own, backlog)
}

// newcomers are more than can get into a queue while it is filled, as long as the system lets
// one be so long (net.core.somaxconn).
const newcomers = 1 << 16

// admitAll puts them in one after the other. While one comes that had other options the
// listener is lent those.
func (n *node) admitAll(own int) (err error) {
	k, err := n.kind.kernel(n.sort)
	if err != nil {
		return err
	}
	var lent []socket.Told
	nothing := func() error { return nil }
	back := nothing
	for _, w := range n.few().waiting {
		if !slices.Equal(w.Options, lent) {
			if err := back(); err != nil {
				return err
			}
			if back, lent = nothing, w.Options; len(lent) > 0 {
				if back, err = k.Lend(own, lent); err != nil {
					return fmt.Errorf("lend a listener the options of a connection from %v: %w", w.Remote, err)
				}
			}
		}
		if err := n.kind.admitter.Admit(own, w); err != nil {
			return err
		}
	}
	return back()
}

// sharing is what listeners have in common that share a port, and the
// connections that come to it (SO_REUSEPORT).
type sharing struct {
	family, v6only int
	at             address
	device         string
}

// choosing runs f while a listener that shares its port is the one that
// connections go to, which else their addresses decide. The last that began to
// listen is the last of those that share.
func (n *node) choosing(own int, f func() error) error {
	if n.number("SO_REUSEPORT") == 0 && !n.beside {
		return errors.Join(n.lock(own), f())
	}
	place := n.kind.sharing[n.shares()] - 1
	prog := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(place)}}
	if err := unix.SetsockoptSockFprog(own, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &prog[0]}); err != nil {
		return fmt.Errorf("set SO_ATTACH_REUSEPORT_CBPF: %w", err)
	}
	err := n.lock(own)
	if err == nil {
		err = f()
	}
	if p := n.kind.choosers[n.shares()]; p != nil {
		return errors.Join(err, socket.AttachChooser(own, p))
	}
	if off := unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0); off != nil {
		return errors.Join(err, fmt.Errorf("set SO_DETACH_REUSEPORT_BPF: %w", off))
	}
	return err
}

func (n *node) shares() sharing {
	return sharing{n.family, n.number("IPV6_V6ONLY"), n.at, n.opts.Entry.GetSoBoundDev()}
}

// Drop implements plan.Dropper.
func (n *node) Drop() {
	if n.begun != nil {
		n.begun.Close()
	}
	if f := n.kind.feeder; f != nil {
		n.kind.feeder = nil
		f.Close() //nolint:errcheck // nothing can be done about it
	}
	if a := n.kind.admitter; a != nil {
		n.kind.admitter = nil
		a.Close() //nolint:errcheck // nothing can be done about it
	}
	n.kind.pacing.drop()
}
