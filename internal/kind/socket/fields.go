package socket

import (
	sk_opts "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-opts"
)

// number is a field that has the option as it is.
func number(at func(*sk_opts.SkOptsEntry) **uint32) *Field {
	return &Field{
		Put: func(e *sk_opts.SkOptsEntry, v Value) { n := uint32(v.Lo); *at(e) = &n },
		Get: func(e *sk_opts.SkOptsEntry) (Value, bool) {
			p := *at(e)
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
		Put: func(e *sk_opts.SkOptsEntry, v Value) { on := v.Lo != 0; *at(e) = &on },
		Get: func(e *sk_opts.SkOptsEntry) (Value, bool) {
			p := *at(e)
			if p == nil {
				return Value{}, false
			}
			if *p {
				return Uint(1), true
			}
			return Uint(0), true
		},
	}
}

// timeout is two fields that are a struct timeval.
func timeout(at func(*sk_opts.SkOptsEntry) (sec, usec **uint64)) *Field {
	return &Field{
		Put: func(e *sk_opts.SkOptsEntry, v Value) {
			sec, usec := at(e)
			*sec, *usec = &v.Lo, &v.Hi
		},
		Get: func(e *sk_opts.SkOptsEntry) (Value, bool) {
			sec, usec := at(e)
			if *sec == nil || *usec == nil {
				return Value{}, false
			}
			return Value{Lo: **sec, Hi: **usec, OK: true}, true
		},
	}
}

// markField: criu leaves a mark of 0 out, since setting any needs a capability.
var markField = Field{
	Put: func(e *sk_opts.SkOptsEntry, v Value) {
		if n := uint32(v.Lo); n != 0 {
			e.SoMark = &n
		}
	},
	Get: func(e *sk_opts.SkOptsEntry) (Value, bool) { return Uint(e.GetSoMark()), e.SoMark != nil },
}

// lingerField: the field is there if lingering is on, and then has the seconds.
var lingerField = Field{
	Put: func(e *sk_opts.SkOptsEntry, v Value) {
		if uint32(v.Lo) != 0 {
			seconds := uint32(v.Lo >> 32)
			e.SoLinger = &seconds
		}
	},
	Get: func(e *sk_opts.SkOptsEntry) (Value, bool) {
		return Value{Lo: 1 | uint64(e.GetSoLinger())<<32, OK: true}, e.SoLinger != nil
	},
}
