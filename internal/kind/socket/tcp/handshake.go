package tcp

import (
	"encoding/binary"
	"net/netip"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockdiag"
)

// Requests tells how many requests a listener has: of clients whose handshake is not
// over, or whose first data it waits for (TCP_DEFER_ACCEPT). One of Multipath TCP has
// a socket of TCP that they come to.
func (q *Queues) Requests(listener int, multipath bool) (int, error) {
	sk, err := q.mem.Sock(listener)
	if err == nil && multipath {
		if !q.mem.Has("mptcp_sock.first") {
			return 0, kmem.ErrUnavailable
		}
		sk, err = q.mem.Pointer(sk + q.mem.Off("mptcp_sock.first"))
	}
	if err != nil {
		return 0, err
	}
	return q.RequestsAt(sk)
}

// RequestsAt is Requests by where the kernel has the listener.
func (q *Queues) RequestsAt(sk kmem.Addr) (int, error) {
	var n [4]byte
	err := q.mem.ReadAt(n[:], sk+q.mem.Off("inet_connection_sock.icsk_accept_queue")+q.mem.Off("request_sock_queue.qlen"))
	return int(int32(binary.NativeEndian.Uint32(n[:]))), err
}

// HalfOpen returns the ends of all requests to a port, the listener's first, as their
// packets have them. The kernel looks through all connections for them, which takes
// milliseconds.
func HalfOpen(c *sockdiag.Conn, port uint16) (out [][2]netip.AddrPort, err error) {
	plain := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
	err = half(c, port, func(s *sockdiag.Inet) {
		out = append(out, [2]netip.AddrPort{plain(s.Src), plain(s.Dst)})
	})
	return out, err
}
