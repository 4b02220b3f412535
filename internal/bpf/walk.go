package bpf

import (
	"encoding/binary"
	"fmt"
)

const (
	head  = 12 // bytes that each type begins with
	apart = 64 // which types have a mark: every 64th
)

// shape is how many bytes a type takes, and how many more for each of its members.
// Kinds that nobody knows have none.
type shape struct{ own, each uint8 }

var shapes = [32]shape{
	KindInt: {head + 4, 0}, KindPointer: {head, 0}, KindArray: {head + 12, 0}, KindStruct: {head, 12}, KindUnion: {head, 12},
	KindEnum: {head, 8}, kindForward: {head, 0}, KindTypedef: {head, 0}, kindVolatile: {head, 0}, kindConst: {head, 0},
	kindRestrict: {head, 0}, KindFunc: {head, 0}, KindFuncProto: {head, 8}, KindVar: {head + 4, 0}, KindDataSec: {head, 12},
	kindFloat: {head, 0}, KindDeclTag: {head + 4, 0}, kindTypeTag: {head, 0}, KindEnum64: {head, 12},
}

// wish is what types are walked for. There are more than 100,000: those of which
// nothing is wanted must not cost anything.
type wish struct {
	id    uint32    // the type of this number, or those
	kinds uint32    // of these kinds, a bit each,
	named bool      // and if it is set
	begin [4]uint64 // with such a name: a bit for each way that one may begin, see beginning
}

// beginning is a number for the first four bytes of a name, its end counted.
func beginning(b []byte) uint8 { return uint8(binary.NativeEndian.Uint32(b) * 0x9e3779b1 >> 24) }

// among wishes for types of these names, and for others that begin as they do.
func among(names []Name) (w wish) {
	w.named = true
	for _, n := range names {
		w.kinds |= 1<<n.Kind | 1<<n.Or
		if b := append([]byte(n.Name), 0); len(b) >= 4 {
			i := beginning(b)
			w.begin[i/64] |= 1 << (i % 64)
		} else { // what follows in the file decides, too
			w.named = false
		}
	}
	return w
}

// by tells whether a type of one of the kinds has such a name.
func (w *wish) by(x *Types, name uint32) bool {
	if !w.named || uint64(name)+4 > uint64(len(x.names)) {
		return true
	}
	i := beginning(x.names[name:])
	return w.begin[i/64]>>(i%64)&1 != 0
}

// walk calls fn with the types that are wished for until it returns false, from a
// mark on. Errors are ErrBTF.
func (x *Types) walk(mark int, w wish, fn func(*Type) bool) error {
	if len(x.marks) == 0 {
		x.marks = append(x.marks, 0)
	}
	le := binary.NativeEndian
	var t Type // one for all, because there are so many
	id, next := uint32(mark*apart+1), uint32(len(x.marks)*apart+1)
	for at := x.marks[mark]; at < len(x.types); id++ {
		if id == next {
			x.marks, next = append(x.marks, at), next+apart
		}
		b := x.types[at:]
		if len(b) < head {
			return fmt.Errorf("%w: type %d is cut", ErrBTF, id)
		}
		info := le.Uint32(b[4:])
		kind := uint8(info >> 24 & 0x1f)
		s := shapes[kind]
		size := int(s.own) + int(s.each)*int(info&0xffff)
		if s.own == 0 || len(b) < size {
			return fmt.Errorf("%w: type %d is of kind %d", ErrBTF, id, kind)
		}
		if id == w.id || w.kinds>>kind&1 != 0 && w.by(x, le.Uint32(b)) {
			t = Type{ID: id, Kind: kind, name: le.Uint32(b), Size: le.Uint32(b[8:]), rest: b[head:size]}
			if !fn(&t) {
				break
			}
		}
		at += size
	}
	return nil
}

// byID returns the type of a number; a Type without one if there is none.
func (x *Types) byID(id uint32) (out Type, err error) {
	if id == 0 {
		return out, nil // void
	}
	mark := min(int(id-1)/apart, max(len(x.marks)-1, 0))
	err = x.walk(mark, wish{id: id}, func(t *Type) bool {
		out = *t
		return false
	})
	return out, err
}
