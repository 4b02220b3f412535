// Package socket is what the kinds of sockets have in common: the options of
// SOL_SOCKET, filters, devices and owners, and the refusal of families that
// have no kind of their own yet.
package socket

import (
	"golang.org/x/sys/unix"

	sk_opts "glis.dev/glis/image/criu/sk-opts"
)

// When says at which point of a restore an option is set.
type When uint8

// The points, in their order.
const (
	Early  When = iota // on the new socket: others inherit it, or its address depends on it
	Late               // with its queues filled: it would change how they are filled
	Last               // when nothing else follows: it can't be taken back
	Opened             // when it is connected or listens, which would reset it
)

// Option is one option that getsockopt(2) tells and setsockopt(2) sets.
type Option struct {
	Name  string // as in C
	Level int
	Opt   int
	Size  int // of the value in bytes: 4, 8 or 16
	When  When
	// Cap is the capability (CAP_*, over the user namespace that owns the
	// network namespace) that a value other than a new socket's needs; 0 if
	// none does. (0 is CAP_CHOWN, which no option needs.)
	Cap int
	// After names the option that must be on for this one to be other than a
	// new socket's; it saves the reading. "" if there is none.
	After string
	// Force is the option that sets this one beyond the limits of sysctl(8),
	// with CAP_NET_ADMIN; 0 if there is none.
	Force int
	// Ask is set if some families let it be read but not be set.
	Ask bool
	// Placed is set if an end of a connection can't be given it, and it is known by
	// name where the kernel has it, see sockmem.TCP.
	Placed bool
	// Field is where criu's entry has it; nil if it has no place for it.
	Field *Field
}

// soTxrehash is SO_TXREHASH of include/uapi/asm-generic/socket.h (Linux 5.18).
const soTxrehash = 74

// Table is the options of a family, in the order in which they are set.
type Table []Option

// Field is a place in criu's entries.
type Field struct {
	Put func(e *Entries, v Value)
	Get func(e *Entries) (Value, bool)
}

// Value is the value of an option: an int is in Lo, two ints are the halves of
// Lo, a struct timeval is Lo and Hi.
type Value struct {
	Lo, Hi uint64
	OK     bool // there is one
}

// Uint returns a Value of one unsigned int.
func Uint(v uint32) Value { return Value{Lo: uint64(v), OK: true} }

// Common returns the options of level SOL_SOCKET that sockets of every family
// have, in the order in which they are set. Not among them: what is set once
// and for all when the socket is made (SO_TYPE, SO_DOMAIN), what identifies a
// peer, the filter and the device (see Attachment), SO_ERROR, and what no kernel
// lets anybody read (SO_BUSY_POLL_BUDGET, SO_INQ).
func Common() Table {
	const sol = unix.SOL_SOCKET
	return Table{
		{Name: "SO_DEBUG", Level: sol, Opt: unix.SO_DEBUG, Size: 4, When: Late, Cap: unix.CAP_NET_ADMIN},
		{Name: "SO_REUSEADDR", Level: sol, Opt: unix.SO_REUSEADDR, Size: 4, When: Early, Field: flag(func(e *sk_opts.SkOptsEntry) **bool { return &e.Reuseaddr })},
		{Name: "SO_REUSEPORT", Level: sol, Opt: unix.SO_REUSEPORT, Size: 4, When: Early, Ask: true, Field: flag(func(e *sk_opts.SkOptsEntry) **bool { return &e.SoReuseport })},
		{Name: "SO_MARK", Level: sol, Opt: unix.SO_MARK, Size: 4, When: Early, Cap: unix.CAP_NET_ADMIN, Field: &markField},
		{Name: "SO_PRIORITY", Level: sol, Opt: unix.SO_PRIORITY, Size: 4, When: Early, Cap: unix.CAP_NET_ADMIN, Field: number(func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoPriority })},
		{Name: "SO_DONTROUTE", Level: sol, Opt: unix.SO_DONTROUTE, Size: 4, When: Late, Field: flag(func(e *sk_opts.SkOptsEntry) **bool { return &e.SoDontroute })},
		{Name: "SO_BROADCAST", Level: sol, Opt: unix.SO_BROADCAST, Size: 4, When: Late, Field: flag(func(e *sk_opts.SkOptsEntry) **bool { return &e.SoBroadcast })},
		{Name: "SO_KEEPALIVE", Level: sol, Opt: unix.SO_KEEPALIVE, Size: 4, When: Late, Field: flag(func(e *sk_opts.SkOptsEntry) **bool { return &e.SoKeepalive })},
		{Name: "SO_OOBINLINE", Level: sol, Opt: unix.SO_OOBINLINE, Size: 4, When: Late, Field: number(func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoOobinline })},
		{Name: "SO_NO_CHECK", Level: sol, Opt: unix.SO_NO_CHECK, Size: 4, When: Late, Field: flag(func(e *sk_opts.SkOptsEntry) **bool { return &e.SoNoCheck })},
		{Name: "SO_LINGER", Level: sol, Opt: unix.SO_LINGER, Size: 8, When: Late, Field: &lingerField},
		{Name: "SO_RCVLOWAT", Level: sol, Opt: unix.SO_RCVLOWAT, Size: 4, When: Late, Field: number(func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoRcvlowat })},
		{Name: "SO_RCVTIMEO", Level: sol, Opt: unix.SO_RCVTIMEO, Size: 16, When: Late, Field: timeout(func(e *sk_opts.SkOptsEntry) (_, _ **uint64) { return &e.SoRcvTmoSec, &e.SoRcvTmoUsec })},
		{Name: "SO_SNDTIMEO", Level: sol, Opt: unix.SO_SNDTIMEO, Size: 16, When: Late, Field: timeout(func(e *sk_opts.SkOptsEntry) (_, _ **uint64) { return &e.SoSndTmoSec, &e.SoSndTmoUsec })},
		{Name: "SO_SNDBUF", Level: sol, Opt: unix.SO_SNDBUF, Size: 4, When: Late, Force: unix.SO_SNDBUFFORCE, Field: number(func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoSndbuf })},
		{Name: "SO_RCVBUF", Level: sol, Opt: unix.SO_RCVBUF, Size: 4, When: Late, Force: unix.SO_RCVBUFFORCE, Field: number(func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoRcvbuf })},
		// Setting a size locks it, so this one comes after both.
		{Name: "SO_BUF_LOCK", Level: sol, Opt: unix.SO_BUF_LOCK, Size: 4, When: Late, Field: number(func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoBufLock })},
		// The old form and the new share one state; the last that is set
		// decides in which form messages come.
		{Name: "SO_TIMESTAMPING", Level: sol, Opt: unix.SO_TIMESTAMPING, Size: 8, When: Late},
		{Name: "SO_TIMESTAMP", Level: sol, Opt: unix.SO_TIMESTAMP, Size: 4, When: Late},
		{Name: "SO_TIMESTAMPNS", Level: sol, Opt: unix.SO_TIMESTAMPNS, Size: 4, When: Late},
		{Name: "SO_TIMESTAMPING_NEW", Level: sol, Opt: unix.SO_TIMESTAMPING_NEW, Size: 8, When: Late, After: "SO_TIMESTAMPING"},
		{Name: "SO_TIMESTAMP_NEW", Level: sol, Opt: unix.SO_TIMESTAMP_NEW, Size: 4, When: Late},
		{Name: "SO_TIMESTAMPNS_NEW", Level: sol, Opt: unix.SO_TIMESTAMPNS_NEW, Size: 4, When: Late, After: "SO_TIMESTAMP_NEW"},
		{Name: "SO_RXQ_OVFL", Level: sol, Opt: unix.SO_RXQ_OVFL, Size: 4, When: Late},
		{Name: "SO_WIFI_STATUS", Level: sol, Opt: unix.SO_WIFI_STATUS, Size: 4, When: Late},
		{Name: "SO_NOFCS", Level: sol, Opt: unix.SO_NOFCS, Size: 4, When: Late},
		{Name: "SO_SELECT_ERR_QUEUE", Level: sol, Opt: unix.SO_SELECT_ERR_QUEUE, Size: 4, When: Late},
		{Name: "SO_BUSY_POLL", Level: sol, Opt: unix.SO_BUSY_POLL, Size: 4, When: Late, Cap: unix.CAP_NET_ADMIN},
		{Name: "SO_PREFER_BUSY_POLL", Level: sol, Opt: unix.SO_PREFER_BUSY_POLL, Size: 4, When: Late, Cap: unix.CAP_NET_ADMIN},
		{Name: "SO_MAX_PACING_RATE", Level: sol, Opt: unix.SO_MAX_PACING_RATE, Size: 8, When: Late},
		{Name: "SO_INCOMING_CPU", Level: sol, Opt: unix.SO_INCOMING_CPU, Size: 4, When: Late},
		{Name: "SO_TXTIME", Level: sol, Opt: unix.SO_TXTIME, Size: 8, When: Late, Cap: unix.CAP_NET_ADMIN},
		{Name: "SO_RCVMARK", Level: sol, Opt: unix.SO_RCVMARK, Size: 4, When: Late, Cap: unix.CAP_NET_ADMIN},
		{Name: "SO_RCVPRIORITY", Level: sol, Opt: unix.SO_RCVPRIORITY, Size: 4, When: Late},
		{Name: "SO_TXREHASH", Level: sol, Opt: soTxrehash, Size: 4, When: Late, Ask: true}, // of all families in older kernels
	}
}

// Passing returns the options about what a message brings along, which unix
// and netlink sockets have. They come late: while they are on, every message
// that is queued has its sender's identity written on it.
func Passing() Table {
	const sol = unix.SOL_SOCKET
	return Table{
		{Name: "SO_PASSCRED", Level: sol, Opt: unix.SO_PASSCRED, Size: 4, When: Late, Field: flag(func(e *sk_opts.SkOptsEntry) **bool { return &e.SoPasscred })},
		{Name: "SO_PASSSEC", Level: sol, Opt: unix.SO_PASSSEC, Size: 4, When: Late, Field: flag(func(e *sk_opts.SkOptsEntry) **bool { return &e.SoPasssec })},
		{Name: "SO_PASSPIDFD", Level: sol, Opt: unix.SO_PASSPIDFD, Size: 4, When: Late},
		{Name: "SO_PASSRIGHTS", Level: sol, Opt: unix.SO_PASSRIGHTS, Size: 4, When: Late},
	}
}

// Ends returns the options that come last.
func Ends() Table {
	return Table{
		{Name: "SO_PEEK_OFF", Level: unix.SOL_SOCKET, Opt: unix.SO_PEEK_OFF, Size: 4, When: Last},
		{Name: "SO_LOCK_FILTER", Level: unix.SOL_SOCKET, Opt: unix.SO_LOCK_FILTER, Size: 4, When: Last},
	}
}
