// Package tcp is what is special about TCP among inet sockets: its options, and
// listeners.
package tcp

import (
	"golang.org/x/sys/unix"

	sk_inet "glis.dev/glis/image/criu/sk-inet"
	"glis.dev/glis/internal/kind/socket"
)

// linux/tcp.h.
const (
	optFastOpenNoCookie = 34 // TCP_FASTOPEN_NO_COOKIE, Linux 4.15
)

// congestionSize is TCP_CA_NAME_MAX.
const congestionSize = 16

// Options returns the options of level IPPROTO_TCP, in the order in which they
// are set. All but the last come before listen(2): connections begin with what the
// listener has. Not among them: what tells of a connection (TCP_INFO), what only works
// on one (TCP_ULP, TCP_REPAIR…), and keys.
func Options() socket.Table {
	row := func(name string, opt int) socket.Option {
		return socket.Option{Name: name, Level: unix.IPPROTO_TCP, Opt: opt, Size: 4, When: socket.Early}
	}
	field := func(o socket.Option, f *socket.Field) socket.Option {
		o.Field = f
		return o
	}
	flag, number := socket.InetFlag, socket.InetNumber
	return socket.Table{
		{Name: "TCP_CONGESTION", Level: unix.IPPROTO_TCP, Opt: unix.TCP_CONGESTION, Size: congestionSize, When: socket.Early, Cap: unix.CAP_NET_ADMIN},
		field(row("TCP_NODELAY", unix.TCP_NODELAY), flag(false, func(e *sk_inet.InetSkEntry) **bool { return &e.TcpOpts.Nodelay })),
		field(row("TCP_CORK", unix.TCP_CORK), flag(false, func(e *sk_inet.InetSkEntry) **bool { return &e.TcpOpts.Cork })),
		field(row("TCP_KEEPIDLE", unix.TCP_KEEPIDLE), number(func(e *sk_inet.InetSkEntry) **uint32 { return &e.TcpOpts.Keepidle })),
		field(row("TCP_KEEPINTVL", unix.TCP_KEEPINTVL), number(func(e *sk_inet.InetSkEntry) **uint32 { return &e.TcpOpts.Keepintvl })),
		field(row("TCP_KEEPCNT", unix.TCP_KEEPCNT), number(func(e *sk_inet.InetSkEntry) **uint32 { return &e.TcpOpts.Keepcnt })),
		row("TCP_MAXSEG", unix.TCP_MAXSEG),
		row("TCP_SYNCNT", unix.TCP_SYNCNT),
		row("TCP_LINGER2", unix.TCP_LINGER2),
		row("TCP_DEFER_ACCEPT", unix.TCP_DEFER_ACCEPT),
		row("TCP_THIN_LINEAR_TIMEOUTS", unix.TCP_THIN_LINEAR_TIMEOUTS),
		row("TCP_USER_TIMEOUT", unix.TCP_USER_TIMEOUT),
		row("TCP_FASTOPEN", unix.TCP_FASTOPEN),
		row("TCP_FASTOPEN_CONNECT", unix.TCP_FASTOPEN_CONNECT),
		row("TCP_FASTOPEN_NO_COOKIE", optFastOpenNoCookie),
		row("TCP_NOTSENT_LOWAT", unix.TCP_NOTSENT_LOWAT),
		row("TCP_SAVE_SYN", unix.TCP_SAVE_SYN),
		row("TCP_INQ", unix.TCP_INQ),
		row("TCP_TX_DELAY", unix.TCP_TX_DELAY),
		row("TCP_RTO_MAX_MS", unix.TCP_RTO_MAX_MS),
		row("TCP_RTO_MIN_US", unix.TCP_RTO_MIN_US),
		row("TCP_DELACK_MAX_US", unix.TCP_DELACK_MAX_US),
		// What TCP is at: it is off in a dialogue, in which answers acknowledge. Programs
		// set it, too, and listen(2) resets it.
		{Name: "TCP_QUICKACK", Level: unix.IPPROTO_TCP, Opt: unix.TCP_QUICKACK, Size: 4, When: socket.Opened},
	}
}

// Clamp returns the option that comes after SO_RCVBUF, which changes it.
func Clamp() socket.Option {
	return socket.Option{Name: "TCP_WINDOW_CLAMP", Level: unix.IPPROTO_TCP, Opt: unix.TCP_WINDOW_CLAMP, Size: 4, When: socket.Late}
}

// ConnectionOptions returns the options that an end of a connection can have
// set. What limits queues comes after they are filled, as does what delays a
// handshake; what is only taken before a connection is made comes before it. Not
// among them: TCP_MAXSEG, which tells the size in use instead.
func ConnectionOptions() socket.Table {
	var t socket.Table
	for _, o := range Options() {
		switch o.Opt {
		case unix.TCP_MAXSEG:
			continue
		case unix.TCP_FASTOPEN, unix.TCP_FASTOPEN_CONNECT, optFastOpenNoCookie:
			o.Placed = true
		case unix.TCP_NOTSENT_LOWAT, unix.TCP_CORK, unix.TCP_DEFER_ACCEPT:
			o.When = socket.Late
		}
		t = append(t, o)
	}
	return t
}
