package socket

import (
	"slices"
	"testing"

	"glis.dev/glis/image/extra"
)

// TestLoadMany: sockets with the same options share them, also if others come in between, and of
// more sorts than that is done for each still has its own.
func TestLoadMany(t *testing.T) {
	k := newKernel(t)
	l := NewLoader(k.Table)
	of := func(mark uint32, timeout uint64) (Entries, []*extra.SocketOption, []Value) {
		want := slices.Clone(k.Fresh)
		k.Know(want, "SO_MARK", Uint(mark))
		k.Know(want, "SO_RCVTIMEO", Value{Lo: timeout, Hi: 1, OK: true})
		e, more := k.Table.Encode(want, k.Fresh)
		for i, v := range want { // what isn't told of
			if v == k.Fresh[i] && v.OK {
				more = append(more, k.Table[i].entry(v))
			}
		}
		return e, more, want
	}
	var all []*Saved
	for i := range uint32(3 * mostShared) {
		e, more, want := of(i, 1<<40+uint64(i))
		s, err := l.LoadMany(e, more)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.All(); !same(got, want) {
			t.Fatalf("%d: %v instead of %v", i, got, want)
		}
		if v, ok := l.Of(&s, "SO_MARK"); !ok || v != Uint(i) {
			t.Errorf("SO_MARK %d is %v", i, v)
		}
		if v, ok := l.Of(&s, "SO_SNDBUF"); !ok || !v.OK || v.Lo == 0 {
			t.Errorf("SO_SNDBUF is %v", v)
		}
		s.Entry, s.Inet, s.Options = nil, nil, nil
		all = append(all, l.Once(&s))
	}
	for i, s := range all {
		e, more, _ := of(uint32(i), 1<<40+uint64(i))
		again, err := l.LoadMany(e, more)
		again.Entry, again.Inet, again.Options = nil, nil, nil
		if shared := i < mostShared; err != nil || shared != (l.Once(&again) == s) || shared != (again.Values != nil) {
			t.Errorf("%d: shared with who came before: %v, has values: %v, error: %v", i, l.Once(&again) == s, again.Values != nil, err)
		}
		if e, more, want := of(uint32(i), 1<<40+uint64(i)); i%5 == 0 {
			if s, err := l.Load(e, more); err != nil || !same(s.Values, want) {
				t.Errorf("Load of %d: %v, %v", i, s.Values, err)
			}
		}
	}
}

// same compares the values of options that there are.
func same(a, b []Value) bool {
	return slices.EqualFunc(a, b, func(a, b Value) bool { return a == b || !a.OK && !b.OK })
}
