package inet

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/sockdiag"
)

// At the port of a socket without SO_REUSEADDR the kernel may still bring connections to
// their end: such in TIME_WAIT, and such that nobody has open, with something to send.
// They are in the way of bind(2) and listen(2), but not of a socket in repair mode.
// That one could be bound beside anybody, so who else is there is looked at first.

// leftBehind tells whether a socket is one that the kernel brings to its end by itself.
func leftBehind(s *sockdiag.Inet) bool {
	switch int(s.State) {
	case tcp.TimeWait:
		return true
	case tcp.FinWait1, tcp.FinWait2, tcp.Closing, tcp.LastAck:
		return s.Ino == 0
	}
	return false
}

// eachAt calls fn with every TCP socket of a port, 0 for all, and of states (bits 1<<TCP_*,
// 0 for all) in Glis's network namespace.
func eachAt(port uint16, states uint32, fn func(*sockdiag.Inet)) error {
	c, err := sockdiag.Open(0)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		q := sockdiag.InetQuery{Family: family, Protocol: unix.IPPROTO_TCP, States: states, Port: port}
		err := c.EachInet(q, func(s *sockdiag.Inet) error {
			if port == 0 || s.Src.Port() == port { // the kernel shows all that are only bound
				fn(s)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// overlap tells whether sockets at two addresses may be in each other's way.
func overlap(a, b netip.Addr) bool {
	a, b = a.Unmap(), b.Unmap()
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}

// destroyLeft has the kernel forget what is left of the same connection, of a tree that
// was ended after its dump (--leave-stopped) while packets were held back, as they are now:
// its peer has heard of nothing, nor does it hear of this. It tells whether there was such.
func (n *node) destroyLeft(env *plan.Env) bool {
	c, err := sockdiag.Open(0)
	if err != nil {
		return false
	}
	defer c.Close()
	e, err := n.endsOf()
	if err != nil {
		return false
	}
	s, err := c.FindInet(unix.IPPROTO_TCP, e.Local, e.Remote, e.Device)
	if err != nil || s.Ino != 0 || !n.unheardIn(int(s.State)) || s.Dst.Port() != n.peer.port || s.Dst.Addr().Unmap() != n.peer.ip.Unmap() {
		return false
	}
	if err := c.DestroyInet(unix.IPPROTO_TCP, &s); err != nil {
		env.Log.Warn("What is left of a connection is in the way of it", "from", s.Src, "to", s.Dst, "err", err)
		return false
	}
	return true
}

// unheardIn tells whether what was closed by its end's owner of late, or in the middle of being
// made (by a restore that was killed), is in this state while its peer has not answered: of any
// other the peer knows that it has come to its end. Each is ESTABLISHED first when it is made.
func (n *node) unheardIn(state int) bool {
	switch n.stream.State {
	case tcp.Established:
		return state == tcp.FinWait1
	case tcp.CloseWait:
		return state == tcp.FinWait1 || state == tcp.LastAck
	}
	return state == tcp.FinWait1 || state == n.stream.State
}

// others counts those at the socket's address that are in its way: who is there, and
// what the kernel brings to its end.
func (n *node) others(own int, at address) (live, left int, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(own, &st); err != nil {
		return 0, 0, fmt.Errorf("fstat: %w", err)
	}
	err = eachAt(at.port, 0, func(s *sockdiag.Inet) {
		switch {
		case uint64(s.Ino) == st.Ino || !overlap(s.Src.Addr(), at.ip):
		case leftBehind(s):
			left++
		case s.Ino == 0: // a client that a listener there has let in, or is about to: this one, or it is seen itself
		default:
			live++
		}
	})
	return live, left, err
}

// showsBound tells whether the kernel shows sockets that are only bound (Linux 6.8).
func (n *node) showsBound() (shown bool, err error) {
	num, err := n.like()
	if err != nil {
		return false, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(num)
	var sa unix.Sockaddr = &unix.SockaddrInet4{}
	if n.family == unix.AF_INET6 {
		sa = &unix.SockaddrInet6{}
	}
	if err := unix.Bind(num, sa); err != nil {
		return false, fmt.Errorf("bind to any port: %w", err)
	}
	if sa, err = unix.Getsockname(num); err != nil {
		return false, fmt.Errorf("getsockname: %w", err)
	}
	err = eachAt(decode(sa).port, 0, func(*sockdiag.Inet) { shown = true })
	return shown, err
}

// bindOver binds a socket to a port that only leftovers have. If others do, what bind
// said is why it fails.
func (n *node) bindOver(own int, at address, zone int, taken error) error {
	if n.protocol != unix.IPPROTO_TCP || n.connected {
		return taken
	}
	live, left, err := n.others(own, at)
	if err != nil || live > 0 || left == 0 {
		return errors.Join(taken, err)
	}
	if shown, err := n.showsBound(); err != nil || !shown {
		return errors.Join(taken, err)
	}
	if n.listens() { // listen(2) asks once more, and believes this
		if err := n.sharePort(own, 1); err != nil {
			return err
		}
	}
	if err := n.bindForced(own, at, zone); err != nil {
		return err
	}
	n.over = true
	if n.lenient {
		return setReuse(own, 1)
	}
	return setReuse(own, n.number("SO_REUSEADDR"))
}

// bindForced binds a socket in repair mode, which takes SO_REUSEADDR with it when it ends.
func (n *node) bindForced(own int, at address, zone int) error {
	repair := tcp.Repair()
	if err := repair.Set(own); err != nil {
		return fmt.Errorf("enter repair mode (it needs CAP_NET_ADMIN): %w", err)
	}
	if err := n.unseen.bindAt(own, at, zone); err != nil {
		return fmt.Errorf("bind to %v: %w", at, err)
	}
	repair.Value = unix.TCP_REPAIR_OFF_NO_WP
	return repair.Set(own)
}

// listenOver has a socket that bindOver bound listen, and the port be nobody else's: the
// kernel would go on to let in who has SO_REUSEPORT, until a socket without it is bound.
func (n *node) listenOver(own int) error {
	if err := n.sharePort(own, 1); err != nil {
		return err
	}
	if err := tcp.Listen(own, int(n.entry.backlog)); err != nil || n.beside || n.option("SO_REUSEPORT") {
		return err
	}
	if err := n.sharePort(own, 0); err != nil {
		return err
	}
	num, err := n.like()
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(num)
	zone, err := n.zone()
	if err != nil {
		return err
	}
	if err := n.bindForced(num, n.at, zone); err != nil {
		return err
	}
	live, _, err := n.others(own, n.at)
	if err == nil && live > 1 { // num is one
		err = fmt.Errorf("listen at %v: another socket has taken this port just now; end the program it belongs to: %w", n.at, unix.EADDRINUSE)
	}
	return err
}
