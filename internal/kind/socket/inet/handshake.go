package inet

import (
	"golang.org/x/sys/unix"

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
