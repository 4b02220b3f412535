package linux

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Rings are rings that one goroutine after another has. The zero value is ready.
type Rings struct {
	lock sync.Mutex
	free []*Ring
	lost []*Ring // the kernel may still make what they were told
	none bool    // the kernel has none, or does not let us
}

// Take returns a hand for a while, which makes each call at once where that takes less
// time, or there are no rings.
func (p *Rings) Take() Hand {
	if QuickCalls() {
		return Hand{bare: true}
	}
	return p.TakeRing()
}

// TakeRing is Take for what a ring makes in less time whatever a call takes.
func (p *Rings) TakeRing() Hand {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.none {
		return Hand{bare: true}
	}
	if n := len(p.free); n > 0 {
		r := p.free[n-1]
		p.free = p.free[:n-1]
		return Hand{ring: r}
	}
	r, err := NewRing()
	if err != nil {
		p.none = true
	}
	return Hand{ring: r, bare: err != nil}
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

// What a ring needs for a call, beside the kernel's work for it, is some 0.3 µs on any
// machine. A system call needs a third of that, or twice as much where the kernel has to
// guard against what the CPU would tell others.
const (
	quickCall  = 240 * time.Nanosecond
	quickRound = 32 // calls
)

// QuickCalls tells whether a system call takes less time than a ring needs for one. Which
// it is can only be tried: the shortest of some rounds counts, as others had the CPU, too.
// Tests may replace it.
var QuickCalls = sync.OnceValue(func() bool {
	for range 4 {
		from := time.Now()
		for range quickRound {
			_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		if time.Since(from) < quickRound*quickCall {
			return true
		}
	}
	return false
})
