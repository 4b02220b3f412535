package socket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	sk_inet "glis.dev/glis/image/criu/sk-inet"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/extra"
)

// Saved is the options of a socket, read and encoded. Sockets that have the
// same options share one: don't change it.
type Saved struct {
	Values  []Value // nil: see All
	Entry   *sk_opts.SkOptsEntry
	Inet    *sk_inet.InetSkEntry // options only, see Entries
	Options []*extra.SocketOption
	EBPF    bool // it has a filter of eBPF, which isn't among them

	// Of one of many, of which few have the same: what most have, and what it has otherwise.
	most  []Value
	apart string
}

// Save reads and encodes the options of a socket. What is known already comes
// as values that are OK; their slice is used for the rest. filter is false if
// the socket is known to have no filter.
func (k *Kernel) Save(fd int, values []Value, filter bool) (Saved, error) {
	if err := k.Read(fd, values); err != nil {
		return Saved{}, err
	}
	a, err := ReadAttachment(fd, filter)
	if err != nil {
		return Saved{}, err
	}
	if !a.Empty() {
		s := k.encode(values)
		a.put(s.Entry)
		s.EBPF = a.EBPF
		return s, nil
	}
	// Most sockets have what the one before them has.
	if k.last.Entry == nil || !slices.Equal(k.last.Values, values) {
		k.last = k.encode(values)
	}
	return k.last, nil
}

// Same tells whether two sockets have the same options.
func (s *Saved) Same(o *Saved) bool { return slices.Equal(s.Values, o.Values) }

// New returns the options of a new socket.
func (k *Kernel) New() Saved {
	if k.fresh.Entry == nil {
		k.fresh = k.encode(k.Fresh)
	}
	return k.fresh
}

func (k *Kernel) encode(values []Value) Saved {
	s := Saved{Values: slices.Clone(values)}
	var e Entries
	e, s.Options = k.Table.Encode(s.Values, k.Fresh)
	s.Entry, s.Inet = e.Sock, e.Inet
	return s
}

// Loader decodes what Save has encoded, from images.
type Loader struct {
	Table Table
	last  []Value
	all   [][]Value // some that are shared, the first of which most are like
	once  []*Saved  // see Once
	from  source    // of last
	more  []*extra.SocketOption
	next  []Value
	index map[string]int
}

// NewLoader returns a Loader of these options that has Value.
func NewLoader(t Table) *Loader {
	l := &Loader{Table: t, index: make(map[string]int, len(t))}
	for i := range t {
		l.index[t[i].Name] = i
	}
	return l
}

// Value is Table.Value, for those who ask often.
func (l *Loader) Value(values []Value, name string) (Value, bool) {
	i, ok := l.index[name]
	if !ok {
		return Value{}, false
	}
	return values[i], values[i].OK
}

// Of is Value for options that Load or LoadMany returned.
func (l *Loader) Of(s *Saved, name string) (Value, bool) {
	if s.most == nil {
		return l.Value(s.Values, name)
	}
	i, ok := l.index[name]
	if !ok {
		return Value{}, false
	}
	v := s.most[i]
	s.eachApart(func(at int, x Value) {
		if at == i {
			v = x
		}
	})
	return v, v.OK
}

// Load decodes the options of one socket. Those that are alike share their
// Values.
func (l *Loader) Load(e Entries, more []*extra.SocketOption) (Saved, error) {
	return l.load(e, more, false)
}

// LoadMany is Load for sockets of which there may be very many: it may return no Values,
// which All tells then.
func (l *Loader) LoadMany(e Entries, more []*extra.SocketOption) (Saved, error) {
	return l.load(e, more, true)
}

// Once returns options like these: where nothing but values is left of them mostly the same
// for all that share those.
func (l *Loader) Once(s *Saved) *Saved {
	if len(s.Values) == 0 || s.Entry != nil || s.Inet != nil || s.Options != nil || s.EBPF {
		return s
	}
	for _, o := range l.once {
		if &o.Values[0] == &s.Values[0] {
			return o
		}
	}
	if len(l.once) < mostShared {
		l.once = append(l.once, s)
	}
	return s
}

func (l *Loader) load(e Entries, more []*extra.SocketOption, many bool) (Saved, error) {
	if n := len(e.Sock.GetSoFilter()); n > maxFilter {
		return Saved{}, fmt.Errorf("socket filter of %d instructions, more than %d", n, maxFilter)
	}
	from := sourceOf(e)
	if l.last != nil && from == l.from && slices.EqualFunc(more, l.more, sameOption) {
		return Saved{Values: l.last, Entry: e.Sock, Inet: e.Inet, Options: l.more}, nil
	}
	if l.next == nil {
		l.next = make([]Value, len(l.Table))
	}
	if err := l.Table.Decode(e, more, l.next); err != nil {
		return Saved{}, err
	}
	own := Saved{Entry: e.Sock, Inet: e.Inet, Options: more}
	own.Values = l.shared(l.next)
	if own.Values == nil && many {
		own.most, own.apart = l.all[0], apart(l.all[0], l.next)
		return own, nil
	}
	if own.Values == nil {
		own.Values = slices.Clone(l.next)
	}
	l.last, l.from, l.more = own.Values, from, more
	return own, nil
}

// mostShared is of how many different sets of values those that are the same share one.
const mostShared = 16

// shared returns the same values to all who have these, nil if too many others have other ones.
func (l *Loader) shared(values []Value) []Value {
	if l.last != nil && slices.Equal(l.last, values) {
		return l.last
	}
	for _, v := range l.all {
		if slices.Equal(v, values) {
			return v
		}
	}
	if len(l.all) == mostShared {
		return nil
	}
	l.all = append(l.all, slices.Clone(values))
	return l.all[len(l.all)-1]
}

// apart is what values are otherwise, as eachApart reads it.
func apart(most, values []Value) string {
	var room [256]byte
	b := room[:0]
	for i, v := range values {
		if v == most[i] {
			continue
		}
		has := uint64(0)
		if v.OK {
			has = 1
		}
		for _, x := range []uint64{uint64(i)<<1 | has, v.Lo, v.Hi} {
			b = binary.AppendUvarint(b, x)
		}
	}
	return string(b)
}

// eachApart calls f with each value that isn't what most have, and its place.
func (s *Saved) eachApart(f func(at int, v Value)) {
	for at := 0; at < len(s.apart); {
		var x [3]uint64
		for i := range x {
			n := 0
			x[i], n = uvarint(s.apart[at:])
			at += n
		}
		f(int(x[0]>>1), Value{Lo: x[1], Hi: x[2], OK: x[0]&1 != 0})
	}
}

// uvarint is binary.Uvarint of what binary.AppendUvarint has made.
func uvarint(s string) (v uint64, n int) {
	for shift := 0; ; shift += 7 {
		c := s[n]
		v, n = v|uint64(c&0x7f)<<shift, n+1
		if c < 0x80 {
			return v, n
		}
	}
}

// All returns the values, which are not to be changed.
func (s *Saved) All() []Value {
	if s.Values != nil || s.most == nil {
		return s.Values
	}
	all := slices.Clone(s.most)
	s.eachApart(func(at int, v Value) { all[at] = v })
	return all
}

// sameOption tells whether two options of an image are the same, with the same value.
func sameOption(a, b *extra.SocketOption) bool {
	return a == b || a.GetLevel() == b.GetLevel() && a.GetName() == b.GetName() && bytes.Equal(a.GetValue(), b.GetValue())
}

// source is all that options are decoded from: entries that are alike share it
// (proto.Alike). The zero value is of no socket.
type source struct {
	sock *sk_opts.SkOptsEntry
	ip   *sk_inet.IpOptsEntry
	tcp  *tcp_stream.TcpOptsEntry
	six  int8 // V6Only: 0 if it isn't there, 1 if it is off, 2 if it is on
}

func sourceOf(e Entries) source {
	s := source{sock: e.Sock}
	if e.Inet == nil {
		return s
	}
	if s.ip, s.tcp = e.Inet.IpOpts, e.Inet.TcpOpts; e.Inet.V6Only != nil {
		if s.six = 1; *e.Inet.V6Only {
			s.six = 2
		}
	}
	return s
}
