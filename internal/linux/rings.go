package linux

import "sync"

// Rings are rings that one goroutine after another has. The zero value is ready.
type Rings struct {
	lock sync.Mutex
	free []*Ring
	lost []*Ring // the kernel may still make what they were told
	none bool    // the kernel has none, or does not let us
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
	p.lock.Lock()
	defer p.lock.Unlock()
	if h.ring.broken {
		p.lost, p.none = append(p.lost, h.ring), true
		return
	}
	h.Forget()
	p.free = append(p.free, h.ring)
}

// Close ends those that nobody has.
func (p *Rings) Close() {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, r := range append(p.free, p.lost...) {
		_ = r.Close() // nothing can be done about it
	}
	p.free, p.lost = nil, nil
}
