package socket

import (
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
)

// Entries are where criu's images have the options of a socket. Of Inet only
// the options count: v6only, ip_opts, tcp_opts.
type Entries struct {
	Sock *sk_opts.SkOptsEntry
	Inet *sk_inet.InetSkEntry // nil for other families
}

// EmptyInet returns an entry that no option is in yet.
func EmptyInet() *sk_inet.InetSkEntry {
	return &sk_inet.InetSkEntry{IpOpts: &sk_inet.IpOptsEntry{}, TcpOpts: &tcp_stream.TcpOptsEntry{}}
}

// InetNumber is a field that has an option as it is, unless it is 0: criu
// leaves those out.
func InetNumber(at func(*sk_inet.InetSkEntry) **uint32) *Field {
	return &Field{
		Put: func(e *Entries, v Value) {
			if n := uint32(v.Lo); n != 0 {
				*at(e.Inet) = &n
			}
		},
		Get: func(e *Entries) (Value, bool) {
			if e.Inet == nil || *at(e.Inet) == nil {
				return Value{}, false
			}
			return Uint(**at(e.Inet)), true
		},
	}
}

// InetFlag is a field that tells that an option is on; always also tells that
// it is off, which criu leaves out mostly.
func InetFlag(always bool, at func(*sk_inet.InetSkEntry) **bool) *Field {
	return &Field{
		Put: func(e *Entries, v Value) {
			if on := v.Lo != 0; on || always {
				*at(e.Inet) = &on
			}
		},
		Get: func(e *Entries) (Value, bool) {
			if e.Inet == nil || *at(e.Inet) == nil {
				return Value{}, false
			}
			return truth(**at(e.Inet)), true
		},
	}
}

func truth(on bool) Value {
	if on {
		return Uint(1)
	}
	return Uint(0)
}

// number is a field that has the option as it is.
func number(at func(*sk_opts.SkOptsEntry) **uint32) *Field {
	return &Field{
		Put: func(e *Entries, v Value) { n := uint32(v.Lo); *at(e.Sock) = &n },
		Get: func(e *Entries) (Value, bool) {
			p := *at(e.Sock)
			if p == nil {
				return Value{}, false
			}
			return Uint(*p), true
		},
	}
}

// flag is a field that only tells whether the option is on.
func flag(at func(*sk_opts.SkOptsEntry) **bool) *Field {
	return &Field{
		Put: func(e *Entries, v Value) { on := v.Lo != 0; *at(e.Sock) = &on },
		Get: func(e *Entries) (Value, bool) {
			p := *at(e.Sock)
			if p == nil {
				return Value{}, false
			}
			return truth(*p), true
		},
	}
}

// timeout is two fields that are a struct timeval.
func timeout(at func(*sk_opts.SkOptsEntry) (sec, usec **uint64)) *Field {
	return &Field{
		Put: func(e *Entries, v Value) {
			sec, usec := at(e.Sock)
			*sec, *usec = &v.Lo, &v.Hi
		},
		Get: func(e *Entries) (Value, bool) {
			sec, usec := at(e.Sock)
			if *sec == nil || *usec == nil {
				return Value{}, false
			}
			return Value{Lo: **sec, Hi: **usec, OK: true}, true
		},
	}
}

// markField: criu leaves a mark of 0 out, since setting any needs a capability.
var markField = Field{
	Put: func(e *Entries, v Value) {
		if n := uint32(v.Lo); n != 0 {
			e.Sock.SoMark = &n
		}
	},
	Get: func(e *Entries) (Value, bool) { return Uint(e.Sock.GetSoMark()), e.Sock.SoMark != nil },
}

// lingerField: the field is there if lingering is on, and then has the seconds.
var lingerField = Field{
	Put: func(e *Entries, v Value) {
		if uint32(v.Lo) != 0 {
			seconds := uint32(v.Lo >> 32)
			e.Sock.SoLinger = &seconds
		}
	},
	Get: func(e *Entries) (Value, bool) {
		return Value{Lo: 1 | uint64(e.Sock.GetSoLinger())<<32, OK: true}, e.Sock.SoLinger != nil
	},
}
