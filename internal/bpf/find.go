package bpf

import "bytes"

// Name is what a type is looked for by. A struct without members is none.
type Name struct {
	Kind, Or uint8 // of either kind
	Name     string
}

func (n *Name) of(t *Type) bool {
	return t.Kind == n.Kind && (t.Kind != KindStruct || t.Size > 0) || t.Kind == n.Or
}

// Find returns the types of these names, all found in one walk; of two with
// one name the first. One that isn't there has ID 0. Errors are ErrBTF.
func (x *Types) Find(names ...Name) ([]Type, error) {
	out, left := make([]Type, len(names)), len(names)
	if left == 0 {
		return out, nil
	}
	err := x.walk(0, among(names), func(t *Type) bool {
		for i := range names {
			if n := &names[i]; out[i].ID == 0 && n.of(t) && x.Named(t, n.Name) {
				out[i] = *t
				left--
			}
		}
		return left > 0
	})
	return out, err
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

// IsPointer tells whether a member of a struct is a pointer. Errors are ErrBTF.
func (x *Types) IsPointer(t *Type, name string) (bool, error) {
	of, err := x.byID(x.typeOf(t, name))
	return of.Kind == KindPointer, err
}

// typeOf returns the number of a member's type, 0 if there is none of that name.
func (x *Types) typeOf(t *Type, name string) (id uint32) {
	x.members(t, func(at, of uint32, _ Field) {
		if x.named(at, name) {
			id = of
		}
	})
	return id
}

// Inner returns the offset of a member within the struct that a member of a
// struct is; -1 if there is none of that name. It looks through at most deepest
// names (typedef) of a type. Errors are ErrBTF.
func (x *Types) Inner(t *Type, name, inner string) (int, error) {
	id := x.typeOf(t, name)
	for range deepest {
		of, err := x.byID(id)
		if err != nil {
			return -1, err
		}
		if at := x.Member(&of, inner); at >= 0 || of.Kind != KindTypedef {
			return at, nil
		}
		id = of.Size // which is its type there
	}
	return -1, nil
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
