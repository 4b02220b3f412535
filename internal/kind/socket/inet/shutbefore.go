package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
)

// shutdown(2) of a TCP socket that isn't connected says that it isn't (ENOTCONN), and
// has it shut down all the same: inet_shutdown() of net/ipv4/af_inet.c. It stays so when
// it is connected, or listens, as is who a listener lets in, and no FIN is sent.

// shutOut is shutting down for sending, as images have it.
const shutOut = 2

// checkShutBefore finds out whether a socket was shut down before it was connected, or
// listened. Where the kernel's memory can't be read nothing tells.
func (l *look) checkShutBefore() error {
	if l.protocol != unix.IPPROTO_TCP || l.env.Options.TCPClose && l.live() {
		return nil
	}
	most := uint8(shutBoth)
	switch l.state {
	case tcp.Listening, tcp.SynSent:
	case tcp.Established, tcp.CloseWait: // for receiving it can be shut down afterwards
		most = shutOut
	default:
		return nil
	}
	shut, err := l.shutNow()
	if shut &= most; shut != 0 {
		if l.more == nil {
			l.more = &extra.SocketEntry{}
		}
		l.more.ShutBefore = proto.Uint32(uint32(shut))
	}
	return l.fail(err)
}

// shutNow is in which directions it is shut down.
func (l *look) shutNow() (uint8, error) {
	if o := l.loneOf(); o != nil {
		var p sockmem.Picture
		err := l.kind.picture(o.sk, &p)
		return uint8(p.Word[sockmem.Shutdown]), err
	}
	if l.inside != nil {
		return l.inside.U8("sock.sk_shutdown"), nil
	}
	if g := l.kind.glimpse(l.file); g != nil && l.alike() {
		return uint8(g.picture.Word[sockmem.Shutdown]), nil
	}
	m, err := l.kind.memory()
	if errors.Is(err, kmem.ErrUnavailable) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	at, err := m.Sock(l.fd.Int())
	if err != nil {
		return 0, err
	}
	own, err := m.Struct("sock", at)
	if err != nil {
		return 0, err
	}
	return own.U8("sock.sk_shutdown"), nil
}

// planShutBefore checks what checkShutBefore has found out.
func (n *node) planShutBefore(e *extra.SocketEntry) error {
	if shut := e.GetShutBefore(); shut > shutBoth || shut != 0 && (n.protocol != unix.IPPROTO_TCP || !n.live() && !n.listens()) {
		return fmt.Errorf("that it was shut down (%d) before it was connected can't be", e.GetShutBefore())
	}
	return nil
}

// shutBefore shuts a socket down that isn't connected yet, and doesn't listen.
func (n *node) shutBefore(h linux.Hand, own int) error {
	how := int(n.unseen.entry.GetShutBefore()) - 1 // SHUT_RD, SHUT_WR, SHUT_RDWR
	if how < 0 || n.cut {
		return nil
	}
	if err := h.Run(); err != nil {
		return err
	}
	if err := unix.Shutdown(own, how); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("shutdown %d: %w", how, err)
	}
	return nil
}
