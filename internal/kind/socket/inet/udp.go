package inet

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockdiag"
)

// established is what the kernel calls a UDP socket with a peer, see
// include/net/tcp_states.h.
const (
	established = 1
	closed      = 7
	listening   = 10
)

// datagrams is what sock_diag tells about a UDP socket that has a port.
type datagrams struct {
	shutdown uint8
	queued   uint32 // bytes of memory
}

// datagrams returns what sock_diag tells about a UDP socket. It asks for all of
// the namespace, once.
func (l *look) datagrams() (datagrams, bool, error) {
	if l.kind.udp[l.family] == nil {
		all := map[uint32]datagrams{}
		err := l.diag(func(c *sockdiag.Conn) error {
			q := sockdiag.InetQuery{Family: uint8(l.family), Protocol: unix.IPPROTO_UDP}
			return l.fail(c.EachInet(q, func(s *sockdiag.Inet) error {
				all[s.Ino] = datagrams{s.Shutdown, s.RQueue}
				return nil
			}))
		})
		if err != nil {
			return datagrams{}, false, err
		}
		l.kind.udp[l.family] = all
	}
	d, ok := l.kind.udp[l.family][uint32(l.file.Stat.Ino)]
	return d, ok, nil
}

// checkDatagrams refuses UDP sockets with something in their queues.
func (l *look) checkDatagrams() error {
	if l.state = closed; l.peer.set() {
		l.state = established
	}
	p := []unix.PollFd{{Fd: int32(l.fd.Int()), Events: unix.POLLIN | unix.POLLRDHUP}}
	if _, err := linux.PollNow(p); err != nil {
		return l.fail(fmt.Errorf("poll: %w", err))
	}
	d, known, err := l.datagrams()
	if err != nil {
		return err
	}
	out, err := unix.IoctlGetInt(l.fd.Int(), unix.SIOCOUTQ)
	down := p[0].Revents&unix.POLLRDHUP != 0
	switch {
	case err != nil:
		return l.fail(fmt.Errorf("read SIOCOUTQ: %w", err))
	case p[0].Revents&unix.POLLERR != 0:
		return l.refuse("an error waits to be reported (SO_ERROR, MSG_ERRQUEUE), which isn't supported yet; let the process read it first")
	case d.queued != 0, p[0].Revents&unix.POLLIN != 0 && !down:
		return l.refuse("datagrams are in its queue (%d bytes of memory), which isn't supported yet; let the process read them first", d.queued)
	case out != 0:
		return l.refuse("%d bytes of memory hold what it hasn't sent yet (MSG_MORE, UDP_CORK, or a slow device), which isn't supported yet; let it send that first", out)
	case down && !known:
		return l.refuse("it was shut down and has no port, which isn't supported yet")
	}
	l.shutdown = d.shutdown
	return nil
}
