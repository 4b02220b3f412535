package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
)

// readCame finds out what an end of a connection of IPv6 knows of what came from its peer.
func (l *look) readCame() (tcp.Came, error) {
	if l.family != unix.AF_INET6 || !l.peer.addrPort().Addr().Is6() {
		return tcp.Came{}, nil
	}
	flow, err := l.cameWith()
	if err != nil {
		return tcp.Came{}, err
	}
	return tcp.ReadCame(l.fd.Int(), flow)
}

// cameWith is the flow label and class by the kernel's memory, without which nothing tells
// the class.
func (l *look) cameWith() (uint32, error) {
	if g := l.kind.glimpse(l.file); l.inside == nil && g != nil {
		c := tcp.CameBy(&g.picture)
		return c.Flow, nil
	}
	m, err := l.kind.memory()
	if l.inside == nil || err != nil || !m.Has("ipv6_pinfo.rcv_flowinfo") {
		return 0, nil //nolint:nilerr // see docs/limits.md
	}
	six, err := m.Struct("ipv6_pinfo", l.inside.Pointer("inet_sock.pinet6"))
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(six.Raw("ipv6_pinfo.rcv_flowinfo", 4)), nil
}

// parseCame checks the same of a connection that waits at a listener, which lets in what comes
// from no farther than it asks for by now (IP_MINTTL, IPV6_MINHOPCOUNT).
func (n *node) parseCame(e *extra.WaitingTCP, from netip.Addr) (tcp.Came, error) {
	c := tcp.Came{Flow: e.GetFlowInfo(), Hops: e.GetHops()}
	const label, mostHops = 1<<20 - 1, 255
	if c.Flow > mostFlowInfo || c.Flow&label != 0 && !from.Is6() || c.Hops > mostHops {
		return c, fmt.Errorf("a flow label and class of %#x, and a hop limit of %d can't be", c.Flow, c.Hops)
	}
	least := n.number("IP_MINTTL")
	if from.Is6() {
		least = n.number("IPV6_MINHOPCOUNT")
	}
	if c.Told() && e.Hops == nil { // images of before
		c.Hops = mostHops
	}
	c.Hops = max(c.Hops, uint32(least)&mostHops)
	return c, nil
}

// hearCame has a connection hear of what came, and returns what takes back what that needs.
// Where nothing gets there, as behind a firewall, it tells what a new one does: that is no
// reason to be without it. Others need not wait for that once more.
func (n *node) hearCame(h linux.Hand, num int) (back func() error, err error) {
	nothing := func() error { return nil }
	if !n.stream.Came.Told() || n.kind.unheard.Load() != nil {
		return nothing, nil
	}
	if err := h.Run(); err != nil {
		return nil, err
	}
	back, err = n.stream.HearCame(num, n.path(), n.number)
	if errors.Is(err, tcp.ErrUnheard) {
		why := err
		n.kind.unheard.CompareAndSwap(nil, &why)
		return nothing, back()
	}
	return back, err
}

// sayUnheard says, once, that connections don't tell what they did.
func (k *Kind) sayUnheard(log *slog.Logger) {
	if why := k.unheard.Load(); why != nil && k.saidUnheard.CompareAndSwap(false, true) {
		log.Warn("Connections of IPv6 no longer tell of the segments that made them (IPV6_FL_F_REMOTE, IPV6_2292PKTOPTIONS)", "err", *why)
	}
}
