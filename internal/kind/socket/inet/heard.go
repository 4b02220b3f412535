package inet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/sockdiag"
)

// A connection may have come to its end after it was saved: its tree ran on
// (--leave-running), or was restored before, and its peer has heard of the end. Where
// segments have time stamps the kernel lets it be made again beside what is left of it
// (tcp_twsk_unique() of net/ipv4/tcp_ipv4.c). What it then sends, the peer passes over,
// and what it waits for never comes. So what this host knows of both ends is looked at
// before there is a process.

// errOver says that a connection has come to its end since it was saved.
var errOver = errors.New("the connection has come to its end since it was saved: its peer has heard of it from a tree that ran on, or was restored before; restore a later checkpoint, or give --tcp-close, which has connections come back as ended ones; if what is left is another's, it is gone in a minute")

// leftOver tells whether what the kernel has left of a connection, which was saved in one
// state, is left of its end, and not of that of a tree whose packets were held back
// (--leave-stopped).
func leftOver(saved, left int) bool {
	switch left {
	case tcp.TimeWait:
		return slices.Contains([]int{tcp.Established, tcp.FinWait1, tcp.FinWait2}, saved)
	case tcp.FinWait2:
		return saved == tcp.Established
	}
	return false
}

// hasHeard tells whether the peer of a connection, which was saved in one state, has
// heard an end that had not been sent by then.
func hasHeard(saved, peer int) bool {
	return (saved == tcp.Established || saved == tcp.CloseWait) && slices.Contains([]int{tcp.CloseWait, tcp.LastAck, tcp.Closing, tcp.TimeWait}, peer)
}

// checkOver makes sure that the connection is not known to be over.
func (n *node) checkOver(log *slog.Logger) error {
	k := n.kind
	if !k.asked {
		k.asked = true
		if err := k.askEnds(); err != nil {
			log.Warn("Whether connections have come to their end since they were saved is not known", "err", err)
		}
	}
	if what := k.over[n]; what != "" {
		return fmt.Errorf("file %#x, %v: %s: %w", n.id, n, what, errOver)
	}
	return nil
}

// askEnds asks the kernel for both ends of all connections of which one is in the images.
func (k *Kind) askEnds() error {
	var some []*node
	var ends []sockdiag.Ends
	for _, n := range k.nodes {
		if !n.live() || n.joined || n.stream.State == tcp.SynSent {
			continue
		}
		here, err := n.endsOf()
		if err != nil {
			return err
		}
		some = append(some, n)
		ends = append(ends, here, sockdiag.Ends{Local: here.Remote, Remote: here.Local})
	}
	if len(some) == 0 {
		return nil
	}
	k.over = map[*node]string{}
	return eachEnd(ends, func(i int, s *sockdiag.Inet) {
		n, name := some[i/2], socket.StateName(int(s.State))
		switch own := i%2 == 0; {
		case own && s.Ino == 0 && leftOver(n.stream.State, int(s.State)):
			k.over[n] = fmt.Sprintf("what this host has left of it is in state %s", name)
		case !own && k.over[n] == "" && hasHeard(n.stream.State, int(s.State)):
			k.over[n] = fmt.Sprintf("its peer, on this host, is in state %s", name)
		}
	})
}

// fewEnds is how many sockets are asked for one by one. Of more, it takes less time to
// look through all that are in a state of interest.
var fewEnds = 128

// eachEnd calls fn with the sockets that have these ends, by number, in Glis's network
// namespace; of many, only with such as may tell of an end.
func eachEnd(ends []sockdiag.Ends, fn func(i int, s *sockdiag.Inet)) error {
	c, err := sockdiag.Open(0)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing was written
	if len(ends) <= fewEnds {
		return c.FindEach(unix.IPPROTO_TCP, ends, func(i int, s *sockdiag.Inet) {
			if plain(s.Dst) == ends[i].Remote { // else it is who listens there
				fn(i, s)
			}
		})
	}
	places := make(map[sockdiag.Ends]int, len(ends))
	for i, e := range ends {
		places[e] = i
	}
	const states = 1<<tcp.FinWait2 | 1<<tcp.TimeWait | 1<<tcp.CloseWait | 1<<tcp.LastAck | 1<<tcp.Closing
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		q := sockdiag.InetQuery{Family: family, Protocol: unix.IPPROTO_TCP, States: states}
		err := c.EachInet(q, func(s *sockdiag.Inet) error {
			if i, ok := places[sockdiag.Ends{Local: plain(s.Src), Remote: plain(s.Dst), Device: int(s.Device)}]; ok {
				fn(i, s)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// plain is an address as packets have it.
func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// endsOf is what to look for the connection by.
func (n *node) endsOf() (sockdiag.Ends, error) {
	device, err := n.zone()
	if name := n.opts.Entry.GetSoBoundDev(); name != "" {
		var i *net.Interface
		if i, err = net.InterfaceByName(name); err == nil {
			device = i.Index
		}
	}
	if err != nil {
		err = fmt.Errorf("find the interface of %v: %w", n, err)
	}
	return sockdiag.Ends{Local: n.at.addrPort(), Remote: n.peer.addrPort(), Device: device}, err
}
