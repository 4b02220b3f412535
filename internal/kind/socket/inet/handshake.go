package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/sockdiag"
)

// holdHandshakes holds back what comes from clients whose handshake is not over, also
// while the listener is away. They try again and again, and would be told that nobody
// is there.
func (l *look) holdHandshakes() error {
	if !l.mayHaveRequests() {
		return nil
	}
	var some []netlock.Flow
	err := l.diag(func(c *sockdiag.Conn) error {
		all, err := tcp.HalfOpen(c, l.at.port)
		for _, ends := range all {
			f, at := netlock.Flow{Protocol: unix.IPPROTO_TCP, Local: ends[0], Remote: ends[1]}, l.at.ip.Unmap()
			if at.IsUnspecified() || at == f.Local.Addr() {
				some = append(some, f)
			}
		}
		return l.fail(err)
	})
	if some = l.kind.unheld(some); err != nil || len(some) == 0 {
		return err
	}
	return l.fail(l.env.Hold(some))
}

// mostHalves is for how many clients of a listener that is done: of more at once most are
// nobody's, as in a flood of first segments, and the program would have to accept them all.
const mostHalves = 256

// dumpHalves dumps clients whose handshake is not over: they wait at the listener as if it were,
// since nobody would know of them when the last segment of it comes, and they would be reset.
// What can't be put back is left out, and tries again if it has had no answer yet.
func (l *look) dumpHalves() error {
	if l.leavesOut() || !l.mayHaveRequests() || l.whyNot() != "" || l.protocol == unix.IPPROTO_MPTCP {
		return nil
	}
	e := &extra.SocketEntry{}
	m, err := l.kind.memory()
	if err != nil || l.readReflects(l.fd.Int(), e) != nil || e.GetReflects() {
		return nil //nolint:nilerr // see docs/limits.md
	}
	sk, err := l.sock(m)
	if err != nil {
		return l.fail(err)
	}
	all, err := tcp.NewQueues(m).Halves(sk)
	if err != nil {
		return l.fail(err)
	}
	if len(all) > mostHalves {
		l.env.Log.Warn("Too many handshakes are not over: they have to begin anew", "at", l.at, "count", len(all), "most", mostHalves)
		return nil
	}
	l.waiting = nil
	for _, w := range all {
		is, err := l.kind.isForeign(abroad{familyOf(w.Local.Addr()), w.Local.Addr(), w.Device})
		if err != nil {
			return l.fail(err)
		}
		if !is && l.kind.held[flowOf(w)] && len(l.waiting)+l.tcp.Waiting < l.tcp.Backlog {
			l.waiting = append(l.waiting, w)
		}
	}
	return l.putWaiting()
}

// greet answers such clients once more.
func (n *node) greet() (err error) {
	for _, w := range n.few().waiting {
		if !w.Half {
			continue
		}
		if failed := w.Greet(); failed != nil {
			err = errors.Join(err, fmt.Errorf("answer %v once more, whose handshake was not over: %w", w.Remote, failed))
		}
	}
	return err
}

// mayHaveRequests tells whether the listener has requests, or, where the kernel's
// memory can't be read, that it may.
func (l *look) mayHaveRequests() bool {
	m, err := l.kind.memory()
	if err != nil {
		return true
	}
	q, n := tcp.NewQueues(m), 0
	if o := l.loneOf(); o != nil {
		n, err = q.RequestsAt(o.sk)
	} else {
		n, err = q.Requests(l.fd.Int(), l.protocol == unix.IPPROTO_MPTCP)
	}
	return err != nil || n > 0
}
