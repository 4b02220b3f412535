package inet

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/options"
)

// timeout is the retransmission timeout of an end.
func (p *pair) timeout(t *testing.T, end int) time.Duration {
	t.Helper()
	i, err := unix.GetsockoptTCPInfo(p.ends[end].Int(), unix.IPPROTO_TCP, unix.TCP_INFO)
	must(t, err)
	return time.Duration(i.Rto) * time.Microsecond
}

// awaitTimed waits until an end has learnt how long its peer takes to answer.
func (p *pair) awaitTimed(t *testing.T, end int) {
	t.Helper()
	for last := time.Now().Add(time.Minute); p.timeout(t, end) > time.Second; {
		if time.Now().After(last) {
			t.Fatalf("end %d would wait for %v", end, p.timeout(t, end))
		}
		time.Sleep(time.Millisecond)
	}
}

// moveTwice moves ends, and does so once more before any packet of theirs gets through, as
// while the peer is away itself.
func (p *pair) moveTwice(t *testing.T, which ...int) {
	t.Helper()
	lock, err := netlock.Open()
	must(t, err)
	defer lock.Close()
	o := &options.Dump{}
	o.TCPEstablished = true
	env, f := environment(t, o, images{}, p.ends[0].Int())
	flows, err := New().Flows(env, f)
	must(t, err)
	if err := lock.Hold("glis-test-away", flows); err != nil {
		lacksRules(t, err)
	}
	p.move(t, which...)
	p.move(t, which...)
	must(t, lock.Release())
}

// What waits for a timer at a restored connection does not wait for that of one whose
// peer has never answered: what is held back, or has no window.
func TestTimed(t *testing.T) {
	for _, s := range []sort{tcp4, tcp6} {
		ip := "127.0.0.1"
		if s.family == unix.AF_INET6 {
			ip = "::1"
		}
		t.Run("held back at "+ip, func(t *testing.T) {
			p := paired(t, s, ip)
			p.send(t, 0, 100)
			p.set(t, 0, unix.IPPROTO_TCP, unix.TCP_CORK, 1)
			for _, which := range [][]int{{0}, {0, 1}} {
				p.moveTwice(t, which...)
				p.awaitTimed(t, 0)
				p.send(t, 0, 50)
				p.drain(t, 1)
			}
		})
		for _, closed := range []bool{false, true} {
			t.Run("no window at "+ip, func(t *testing.T) {
				p := paired(t, s, ip)
				if closed {
					must(t, unix.Shutdown(p.ends[1].Int(), unix.SHUT_WR))
					p.await(t, 0, tcp.CloseWait)
				}
				p.send(t, 0, 8<<20)
				if !closed {
					must(t, unix.Sendto(p.ends[1].Int(), []byte("!"), unix.MSG_OOB, nil))
				}
				for _, which := range [][]int{{0}, {0, 1}} {
					p.moveTwice(t, which...)
					p.awaitTimed(t, 0)
				}
				p.drain(t, 1)
			})
		}
	}
}
