package socket

import (
	"bytes"
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
	Values  []Value
	Entry   *sk_opts.SkOptsEntry
	Inet    *sk_inet.InetSkEntry // options only, see Entries
	Options []*extra.SocketOption
	EBPF    bool // it has a filter of eBPF, which isn't among them
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
	from  source // of last
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

// Load decodes the options of one socket. Those that are alike share their
// Values.
func (l *Loader) Load(e Entries, more []*extra.SocketOption) (Saved, error) {
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
	if l.last == nil || !slices.Equal(l.last, l.next) {
		l.last = slices.Clone(l.next)
	}
	l.from, l.more = from, more
	return Saved{Values: l.last, Entry: e.Sock, Inet: e.Inet, Options: more}, nil
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
