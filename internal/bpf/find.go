package bpf

import "bytes"

// Name is what a type is looked for by.
type Name struct {
	Kind uint8
	Name string
}

// few is up to how many names of a kind are compared one by one.
const few = 2

// Find returns the types of these names, all found in one walk; of two with
// one name the first. One that isn't there has ID 0. Errors are ErrBTF.
func (x *Types) Find(names ...Name) ([]Type, error) {
	out, left := make([]Type, len(names)), len(names)
	var kinds [kindLast + 1]map[string]int
	for i, n := range names {
		if kinds[n.Kind] == nil {
			kinds[n.Kind] = map[string]int{}
		}
		kinds[n.Kind][n.Name] = i
	}
	err := x.Each(func(t *Type) bool {
		if i := x.among(kinds[t.Kind], t); i >= 0 && out[i].ID == 0 {
			out[i] = *t
			left--
		}
		return left > 0
	})
	return out, err
}

// among returns the number of the name that a type has, -1 if it has none of
// them. There are more than 100,000 types: most must not cost anything.
func (x *Types) among(names map[string]int, t *Type) int {
	switch {
	case len(names) == 0:
		return -1
	case len(names) <= few:
		for n, i := range names {
			if x.Named(t, n) {
				return i
			}
		}
		return -1
	}
	if i, ok := names[string(x.Name(t))]; ok {
		return i
	}
	return -1
}

// Name returns the name of a type, valid until Close; none if it has none.
func (x *Types) Name(t *Type) []byte {
	if uint64(t.name) >= uint64(len(x.names)) {
		return nil
	}
	b := x.names[t.name:]
	return b[:max(bytes.IndexByte(b, 0), 0)]
}

// Bits is where a member is, to the bit: Offset in bits, and how many there
// are if it is a bit field, else 0.
type Bits struct{ Offset, Size int }

// Bits returns where a member of a struct is; Offset is -1 if there is none of
// that name. It does not look into members without a name.
func (x *Types) Bits(t *Type, name string) Bits {
	out := Bits{Offset: -1}
	x.members(t, func(at, _ uint32, f Field) {
		if out.Offset < 0 && x.named(at, name) {
			out = Bits{8*f.Offset + f.Bit, f.Bits}
		}
	})
	return out
}

// IsPointer tells whether a member of a struct is a pointer. It walks all types
// again. Errors are ErrBTF.
func (x *Types) IsPointer(t *Type, name string) (is bool, err error) {
	var id uint32
	x.members(t, func(at, of uint32, _ Field) {
		if x.named(at, name) {
			id = of
		}
	})
	err = x.Each(func(t *Type) bool {
		is = t.ID == id && t.Kind == KindPointer
		return t.ID != id
	})
	return is, err
}

// Inner returns the offset of a member within the struct that a member of a
// struct is; -1 if there is none of that name. It walks all types again, and
// looks through at most deepest names (typedef) of a type. Errors are ErrBTF.
func (x *Types) Inner(t *Type, name, inner string) (at int, err error) {
	at = -1
	var id uint32
	x.members(t, func(at, of uint32, _ Field) {
		if x.named(at, name) {
			id = of
		}
	})
	for range deepest {
		next := uint32(0)
		err = x.Each(func(t *Type) bool {
			if t.ID != id {
				return true
			}
			at = x.Member(t, inner)
			if t.Kind == KindTypedef {
				next = t.Size // which is its type there
			}
			return false
		})
		if err != nil || at >= 0 || next == 0 {
			break
		}
		id = next
	}
	return at, err
}

// Index returns which member of a struct has a name, the first is 0; -1 if none has.
func (x *Types) Index(t *Type, name string) int {
	out, i := -1, 0
	x.members(t, func(at, _ uint32, _ Field) {
		if out < 0 && x.named(at, name) {
			out = i
		}
		i++
	})
	return out
}
