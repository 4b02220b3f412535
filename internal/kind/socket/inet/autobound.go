package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// A TCP socket that got its port from the kernel, as one that was bound to port 0 or to
// none before it listened, gives it up when it is shut down or disconnected; one that was
// bound to that port keeps it. getsockname(2) tells it still, but the port is free then.

// readAutobound finds out whether a socket that isn't connected got its port that way,
// and whether it has given it up.
func (l *look) readAutobound(m *kmem.Reader) (err error) {
	if l.protocol != unix.IPPROTO_TCP || l.live() || l.at.port == 0 || !m.Has("sock.sk_userlocks") {
		return nil
	}
	own := l.inside
	if o := l.loneOf(); o != nil {
		if own, err = m.Struct("tcp_sock", o.sk); err != nil {
			return err
		}
	}
	if own.Bits("sock.sk_userlocks")&boundPort == 0 {
		l.more.LentPort = proto.Bool(true)
		if !l.connected && m.Has("sock_common.skc_num") && own.U16("sock_common.skc_num") == 0 {
			l.more.PortFree = proto.Bool(true)
		}
	}
	return nil
}

// autobound tells whether the kernel gave the socket its port, and may take it back.
func (n *node) autobound() bool {
	return n.protocol == unix.IPPROTO_TCP && !n.connected && n.at.port != 0 && n.unseen.entry.GetLentPort()
}

// vacant tells whether its address tells a port that it hasn't any more.
func (n *node) vacant() bool { return n.autobound() && n.unseen.entry.GetPortFree() }

// checkVacant refuses a listener without a port, which images may tell of.
func (n *node) checkVacant() error {
	if n.listens() && n.vacant() {
		return fmt.Errorf("a listener has port %d, which can't be free", n.at.port)
	}
	return nil
}

// bindAuto leaves the kernel one port to choose.
func (n *node) bindAuto(own int, at address, zone int) error {
	port := uint32(n.at.port)
	if err := setPorts(own, port<<16|port); err != nil {
		return err
	}
	if err := setNoPort(own, 0); err != nil {
		return err
	}
	if err := n.bindAside(own, at, zone); err != nil {
		return fmt.Errorf("bind to %v: %w", at, err)
	}
	// It chose another one if that is none of those it may choose from.
	if err := n.checkSource(own); err != nil {
		return err
	}
	if err := n.vacate(own); err != nil {
		return err
	}
	return errors.Join(setNoPort(own, n.number("IP_BIND_ADDRESS_NO_PORT")), setPorts(own, uint32(n.number("IP_LOCAL_PORT_RANGE"))))
}

// vacate has a socket give its port up, by listening for a moment, if it had done so. That
// takes options with it.
func (n *node) vacate(own int) error {
	if !n.vacant() {
		return nil
	}
	if err := tcp.Listen(own, 0); err != nil {
		return err
	}
	if err := unix.Shutdown(own, unix.SHUT_RD); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	k, err := n.kind.kernel(n.sort)
	if err != nil {
		return err
	}
	return k.Set(own, n.values(), socket.Early, socket.Early)
}

// bindElse binds a socket whose port could not be left to the kernel. One that had given it up
// has no port then, which somebody else may have by now.
func (n *node) bindElse(own int, zone int) error {
	at := n.at
	if at.port = 0; !at.set() {
		return nil
	}
	return n.bindTo(own, at, zone)
}

func setNoPort(own, value int) error {
	b := [4]byte{byte(value)}
	if err := linux.Setsockopt(own, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, b[:]); err != nil {
		return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT to %d: %w", value, err)
	}
	return nil
}
