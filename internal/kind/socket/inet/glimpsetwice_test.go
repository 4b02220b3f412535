package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/sockmem"
)

// TestCompare: two pictures in turn have to be the same; the second of two that are not is
// the first of the next, and what was peeked at before is of no use any more.
func TestCompare(t *testing.T) {
	var p sockmem.Picture
	p.Family = unix.AF_INET
	for _, w := range []sockmem.Word{sockmem.Saddr, sockmem.Daddr, sockmem.Sport, sockmem.Dport} {
		p.Word[w] = 0x0100007f
	}
	p.Word[sockmem.State], p.Word[sockmem.RcvNxt], p.Word[sockmem.PeekOff] = tcp.Established, 5, ^uint32(0)
	later := p
	later.Word[sockmem.RcvNxt], later.Word[sockmem.SegsIn] = 7, 1
	busy := later
	busy.Word[sockmem.Owned] = 1

	for _, c := range []struct {
		name        string
		seen        []sockmem.Picture
		same, still bool
		moved       bool // by the last
		peeked      bool // what was peeked at before is right
	}{
		{"the same", []sockmem.Picture{p, p}, true, true, false, true},
		{"a packet came", []sockmem.Picture{p, later}, false, true, true, false},
		{"and then none", []sockmem.Picture{p, later, later}, true, true, false, false},
		{"in use", []sockmem.Picture{p, busy}, false, false, false, false},
		{"the same, but in use", []sockmem.Picture{busy, busy}, true, false, false, true},
		{"what comes after is of no matter", []sockmem.Picture{p, p, later}, true, true, false, true},
	} {
		var g glimpse
		g.see(&c.seen[0])
		g.queue = []byte("asked")
		moved := false
		for _, next := range c.seen[1:] {
			moved = g.compare(&next)
		}
		if g.same != c.same || g.still != c.still || moved != c.moved || (g.queue != nil) != c.peeked {
			t.Errorf("%s: same %v, still %v, moved %v, queue %q", c.name, g.same, g.still, moved, g.queue)
		}
	}
}
