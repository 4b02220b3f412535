package inet

import (
	"sync"

	"glis.dev/glis/internal/linux"
)

// hands are what connections are made by, many calls at a time. Each of the
// goroutines that make connections takes one.
type hands struct {
	lock sync.Mutex
	free []*linux.Ring
	none bool // the kernel has none, or does not let us
}

// fewTogether is how many are made one call after the other, since a ring costs
// some of them.
var fewTogether = 32

// take returns a hand for a while, which may be one that makes each call at once.
func (k *Kind) takeHand() linux.Hand {
	h := &k.hands
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.none || len(k.nodes) < fewTogether {
		return linux.Hand{}
	}
	if n := len(h.free); n > 0 {
		r := h.free[n-1]
		h.free = h.free[:n-1]
		return linux.Together(r)
	}
	r, err := linux.NewRing()
	if err != nil {
		h.none = true
		return linux.Hand{}
	}
	return linux.Together(r)
}

// give returns a hand that nobody needs any more.
func (h *hands) give(used linux.Hand) {
	if r := used.Ring(); r != nil {
		used.Forget()
		h.lock.Lock()
		h.free = append(h.free, r)
		h.lock.Unlock()
	}
}

// drop ends all that nobody has.
func (h *hands) drop() {
	for _, r := range h.free {
		_ = r.Close() // nothing can be done about it
	}
	h.free = nil
}
