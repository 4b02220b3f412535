package proto

import (
	"bytes"
	"strings"
)

// hoard is memory for what the fields of many messages point to. An image of ten
// thousand files has a hundred thousand such things, and to get memory for each took
// longer than to decode them.
type hoard struct {
	strings []string
	text    *strings.Builder // of strings; nothing that it gave out ever changes
	kinds   []any            // *Pieces[T], each of another T
	alike   []any            // *latest[T], each of another T
}

const (
	// textSize is how many bytes of strings are kept in one piece of memory.
	textSize = 8 << 10
	// mostKinds is of how many types messages are kept together: more are not in
	// any one image by the thousand.
	mostKinds = 8
)

// string returns b as a string.
func (h *hoard) string(b []byte) *string {
	if len(h.strings) == 0 {
		h.strings = make([]string, slab)
	}
	at := &h.strings[0]
	h.strings = h.strings[1:]
	if len(b) > textSize/8 {
		*at = string(b)
		return at
	}
	if h.text == nil || h.text.Cap()-h.text.Len() < len(b) {
		h.text = new(strings.Builder)
		h.text.Grow(textSize)
	}
	start := h.text.Len()
	h.text.Write(b)
	*at = h.text.String()[start:]
	return at
}

// New returns an empty message for a field.
func New[T any](d *Decoder) *T {
	if !d.again {
		return new(T)
	}
	for _, k := range d.hoard.kinds {
		if p, ok := k.(*Pieces[T]); ok {
			return p.New()
		}
	}
	p := new(Pieces[T])
	if len(d.hoard.kinds) < mostKinds {
		d.hoard.kinds = append(d.hoard.kinds, p)
	}
	return p.New()
}

// Pieces gives out values of one type, many of which are in one piece of memory.
// The zero value is ready.
type Pieces[T any] struct {
	free []T
	size int
}

// New returns a new value: zero.
func (p *Pieces[T]) New() *T {
	if len(p.free) == 0 {
		p.size = min(2*p.size+1, slab)
		p.free = make([]T, p.size)
	}
	at := &p.free[0]
	p.free = p.free[1:]
	return at
}

// latest is the last message of a type, and how it was encoded.
type latest[T any] struct {
	raw []byte
	at  *T
	own *T // the last one that nobody shares
}

// Alike takes the value as a message that is mostly the same as the one before it of
// its type: then both are one, which nobody may change.
func Alike[T any, P interface {
	*T
	Message
}](d *Decoder, at **T) {
	l := latestOf[T](d)
	switch {
	case l == nil && *at == nil:
		*at = new(T)
		d.Message(P(*at))
	case l == nil || *at != nil && *at == l.own:
		d.Message(P(*at))
	case *at != nil: // a field that is there twice says what both say
		l.own = new(T)
		d.err = d.message(append(P(*at).AppendFields(nil), d.bytes...), P(l.own))
		*at = l.own
	case l.at != nil && bytes.Equal(l.raw, d.bytes):
		*at = l.at
	default:
		l.raw, l.at = append(l.raw[:0], d.bytes...), New[T](d)
		*at = l.at
		if d.Message(P(*at)); d.err != nil {
			l.at = nil
		}
	}
}

// latestOf returns the last message of a type, nil while there is nothing to be like.
func latestOf[T any](d *Decoder) *latest[T] {
	if !d.again {
		return nil
	}
	for _, k := range d.hoard.alike {
		if l, ok := k.(*latest[T]); ok {
			return l
		}
	}
	l := new(latest[T])
	d.hoard.alike = append(d.hoard.alike, l)
	return l
}
