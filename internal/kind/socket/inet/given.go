package inet

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
)

// A connection that is made gets a limit of its window (TCP_WINDOW_CLAMP) by its buffer
// and by the route to its peer, and has it from then on, unless somebody sets another. So
// a new socket has none, and mostly one that was connected again has the one that it had.
// That is not known before; but it is the same for all with the same options, between the
// same addresses, as long as nothing has come: all are of Glis's own network namespace. The
// first of them is asked, and the others need not be told.

// clamp is that option.
const clamp = "TCP_WINDOW_CLAMP"

// clamped tells whether connections get the limit that they had.
type clamped struct {
	of       *socket.Value // the first of their options, which they share
	at, peer netip.Addr
	same     bool
}

// fewGiven is of how many that is learnt: where each peer is another it takes longer
// to ask than to tell.
const fewGiven = 16

// setConnected sets the last options of a connection.
func (n *node) setConnected(h linux.Hand, num int, k *socket.Kernel) error {
	touched, values := n.stream.Touched(), n.values()
	set := func(but string) error {
		return k.SetBut(h, num, values, but, socket.Late, socket.Opened, touched...)
	}
	want, ok := n.load.Of(n.opts, clamp)
	if !ok || want.Lo == 0 || !h.Many() || len(touched) > 0 || n.opts.Entry != nil || n.entry.ifname != "" || n.unseen.entry != nil {
		return set("")
	}
	g := clamped{of: &values[0], at: n.at.ip, peer: n.peer.ip}
	same, known := n.kind.knowGiven(g)
	if known && !same {
		return set("")
	}
	if err := set(clamp); err != nil || known {
		return err
	}
	if err := h.Run(); err != nil {
		return err
	}
	got, err := unix.GetsockoptInt(num, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP)
	if err != nil {
		return fmt.Errorf("read %s: %w", clamp, err)
	}
	g.same = uint32(got) == uint32(want.Lo)
	n.kind.learnGiven(g)
	if g.same {
		return nil
	}
	return set("")
}

// knowGiven tells whether a connection gets the limit that it had. Of more than a few
// that isn't asked: it is told.
func (k *Kind) knowGiven(g clamped) (same, known bool) {
	all := k.given.Load()
	if all == nil {
		return false, false
	}
	for _, o := range *all {
		if o.of == g.of && o.at == g.at && o.peer == g.peer {
			return o.same, true
		}
	}
	return false, len(*all) >= fewGiven
}

// learnGiven is for connections that come. Several goroutines may learn the same.
func (k *Kind) learnGiven(g clamped) {
	for {
		old := k.given.Load()
		all := []clamped{g}
		if old != nil {
			all = append(all, *old...)
		}
		if k.given.CompareAndSwap(old, &all) {
			return
		}
	}
}
