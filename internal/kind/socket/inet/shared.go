package inet

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// Sockets may have an address in common that the kernel would not give them
// now: they had SO_REUSEPORT on when they were bound, and have it off since.
// They get it for the time until all of them are bound.

// seat is the address of a socket, as far as others can be in its way.
type seat struct {
	family int
	ports  int // IPPROTO_*
	port   uint16
	at     address // port only: those of all addresses
}

// share notes which sockets could not be bound beside others as they are. Only
// listeners are in each other's way of TCP's, since bind lets others through.
func (k *Kind) share() {
	crowded := k.crowded()
	if len(crowded) == 0 {
		return
	}
	count, open := map[seat]int{}, map[seat]int{}
	for _, n := range k.nodes {
		if n.takesSeat() && crowded[n.port()] {
			one, all := n.seats()
			count[one]++
			count[all]++
			if n.at.ip.IsUnspecified() {
				open[all]++
			}
		}
	}
	for _, n := range k.nodes {
		if !n.takesSeat() || !crowded[n.port()] || n.option("SO_REUSEPORT") || n.datagrams() && n.option("SO_REUSEADDR") {
			continue
		}
		one, all := n.seats()
		n.beside = count[one] > 1 || count[all] > 1 && open[all] > 0
	}
}

// crowded returns the ports that several sockets have. Most have one, and to count
// those by their addresses would take more memory than all else that is planned.
func (k *Kind) crowded() map[uint64]bool {
	ports := make([]uint64, 0, len(k.nodes))
	for _, n := range k.nodes {
		if n.takesSeat() {
			ports = append(ports, n.port())
		}
	}
	slices.Sort(ports)
	crowded := map[uint64]bool{}
	for i := 1; i < len(ports); i++ {
		if ports[i] == ports[i-1] {
			crowded[ports[i]] = true
		}
	}
	return crowded
}

// port is the port, of its family and protocol.
func (n *node) port() uint64 {
	return uint64(n.family)<<32 | uint64(n.ports())<<16 | uint64(n.at.port)
}

// takesSeat tells whether nobody else can have its address.
func (n *node) takesSeat() bool {
	return n.at.port != 0 && !n.connected && !n.cut && (n.listens() || n.datagrams())
}

func (n *node) seats() (one, all seat) {
	s := seat{n.family, n.ports(), n.at.port, n.at}
	return s, seat{family: s.family, ports: s.ports, port: s.port}
}

// option tells whether an option was on.
func (n *node) option(name string) bool {
	v, ok := n.load.Value(n.opts.Values, name)
	return ok && v.Lo != 0
}

// Fill implements plan.Filler: every socket is bound by now.
func (n *node) Fill(_ context.Context, _ *plan.Env, own *fd.FD) error {
	if !n.beside {
		return nil
	}
	return n.sharePort(own.Int(), 0)
}

func (n *node) sharePort(own, on int) error {
	if err := unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_REUSEPORT, on); err != nil {
		return fmt.Errorf("set SO_REUSEPORT to %d: %w", on, err)
	}
	return nil
}
