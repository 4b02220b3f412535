package socket

import (
	"encoding/binary"
	"fmt"
	"slices"

	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// valueOf decodes what getsockopt(2) gave. Two ints are taken as one word: that
// is right on little-endian machines, the only ones there are here.
func valueOf(b []byte) Value {
	v := Value{OK: true}
	switch len(b) {
	case 4:
		v.Lo = uint64(binary.LittleEndian.Uint32(b))
	case 8:
		v.Lo = binary.LittleEndian.Uint64(b)
	case 16:
		v.Lo, v.Hi = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	}
	return v
}

// bytes is the value as setsockopt(2) takes it.
func (v Value) bytes(size int) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 16), v.Lo)
	return binary.LittleEndian.AppendUint64(b, v.Hi)[:size]
}

// Encode returns criu's entries for the values, and what they have no place
// for, as far as that differs from a new socket's.
func (t Table) Encode(values, fresh []Value) (Entries, []*extra.SocketOption) {
	e := Entries{&sk_opts.SkOptsEntry{}, EmptyInet()}
	var more []*extra.SocketOption
	for i := range t {
		o, v := &t[i], values[i]
		if !v.OK || o.carry(&e, v) || v == fresh[i] {
			continue
		}
		more = append(more, o.entry(v))
	}
	return e, more
}

// entry is a value as an image has it that criu has no place for.
func (o *Option) entry(v Value) *extra.SocketOption {
	return &extra.SocketOption{Level: proto.Uint32(uint32(o.Level)), Name: proto.Uint32(uint32(o.Opt)), Value: v.bytes(o.Size)}
}

// Also returns the options of a socket that criu's entries have no place for, with one
// that is among them whatever its value.
func (k *Kernel) Also(s *Saved, name string) []*extra.SocketOption {
	i := k.Table.named(name)
	if i < 0 || !s.Values[i].OK || s.Values[i] != k.Fresh[i] {
		return s.Options
	}
	return append(slices.Clip(s.Options), k.Table[i].entry(s.Values[i]))
}

// carry puts a value into criu's entries and tells whether it arrived there
// whole.
func (o *Option) carry(e *Entries, v Value) bool {
	if o.Field == nil {
		return false
	}
	o.Field.Put(e, v)
	got, ok := o.Field.Get(e)
	return ok && got == v
}

// Decode is the inverse of Encode: it fills values. An option that neither has
// is not OK.
func (t Table) Decode(e Entries, more []*extra.SocketOption, values []Value) error {
	clear(values)
	for i := range t {
		if f := t[i].Field; f != nil {
			if v, ok := f.Get(&e); ok {
				values[i] = v
			}
		}
	}
	for _, x := range more {
		i := t.index(int(x.GetLevel()), int(x.GetName()))
		if i < 0 {
			return fmt.Errorf("socket option %d of level %d: this Glis doesn't know it", x.GetName(), x.GetLevel())
		}
		if len(x.Value) != t[i].Size {
			return fmt.Errorf("%s: value of %d bytes, it should have %d", t[i].Name, len(x.Value), t[i].Size)
		}
		values[i] = valueOf(x.Value)
	}
	return nil
}

func (t Table) index(level, opt int) int {
	for i := range t {
		if t[i].Level == level && t[i].Opt == opt {
			return i
		}
	}
	return -1
}

// named returns the index of an option, -1 for "".
func (t Table) named(name string) int {
	for i := range t {
		if t[i].Name == name {
			return i
		}
	}
	return -1
}
