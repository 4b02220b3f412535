package linux

import "sync"

// Rings are rings that one goroutine after another has. The zero value is ready.
type Rings struct {
	lock sync.Mutex
	free []*Ring
	none bool // the kernel has none, or does not let us
}

// Take returns a hand for a while, which makes each call at once where there are no
// rings.
func (p *Rings) Take() Hand {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.none {
		return Hand{}
	}
	if n := len(p.free); n > 0 {
		r := p.free[n-1]
		p.free = p.free[:n-1]
		return Hand{r}
	}
	r, err := NewRing()
	if err != nil {
		p.none = true
	}
	return Hand{r}
}

// Give returns a hand that is needed no more. What waits is given up.
func (p *Rings) Give(h Hand) {
	if h.ring == nil {
		return
	}
	if h.ring.broken {
		_ = h.ring.Close() // nothing can be done about it
		return
	}
	h.Forget()
	p.lock.Lock()
	defer p.lock.Unlock()
	p.free = append(p.free, h.ring)
}

// Close ends those that nobody has.
func (p *Rings) Close() {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, r := range p.free {
		_ = r.Close() // nothing can be done about it
	}
	p.free = nil
}
