package sockmem

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kinds of types, see include/uapi/linux/btf.h.
const (
	btfInt       = 1
	btfArray     = 3
	btfStruct    = 4
	btfUnion     = 5
	btfEnum      = 6
	btfFunc      = 12
	btfFuncProto = 13
	btfVar       = 14
	btfDataSec   = 15
	btfDeclTag   = 17
	btfEnum64    = 19
	btfLast      = 19
)

var errBTF = errors.New("the kernel's type information (BTF) makes no sense")

// btfInfo is the little that is asked of the kernel's type information.
type btfInfo struct {
	types, names []byte
}

// parseBTF finds the sections of a BTF file.
func parseBTF(b []byte) (*btfInfo, error) {
	const header = 24
	le := binary.NativeEndian
	if len(b) < header || le.Uint16(b) != 0xeb9f {
		return nil, fmt.Errorf("%w: no header", errBTF)
	}
	section := func(at int) ([]byte, error) {
		from := uint64(le.Uint32(b[4:])) + uint64(le.Uint32(b[at:]))
		to := from + uint64(le.Uint32(b[at+4:]))
		if to > uint64(len(b)) {
			return nil, fmt.Errorf("%w: it is cut", errBTF)
		}
		return b[from:to], nil
	}
	types, err := section(8)
	if err != nil {
		return nil, err
	}
	names, err := section(16)
	return &btfInfo{types, names}, err
}

// btfType is one type.
type btfType struct {
	id   uint32
	kind uint8
	at   uint32 // of its name
	size uint32
	rest []byte // members and the like
}

// each calls fn with every type until it returns false.
func (x *btfInfo) each(fn func(*btfType) bool) error {
	const head = 12
	le := binary.NativeEndian
	b := x.types
	for id := uint32(1); len(b) > 0; id++ {
		if len(b) < head {
			return fmt.Errorf("%w: type %d is cut", errBTF, id)
		}
		info := le.Uint32(b[4:])
		t := btfType{id: id, kind: uint8(info >> 24 & 0x1f), at: le.Uint32(b), size: le.Uint32(b[8:])}
		n, ok := extra(t.kind, int(info&0xffff))
		if !ok || len(b) < head+n {
			return fmt.Errorf("%w: type %d is of kind %d", errBTF, id, t.kind)
		}
		t.rest = b[head : head+n]
		if !fn(&t) {
			return nil
		}
		b = b[head+n:]
	}
	return nil
}

// extra is how many bytes follow the head of a type with n members.
func extra(kind uint8, n int) (int, bool) {
	switch kind {
	case btfInt, btfVar, btfDeclTag:
		return 4, true
	case btfArray:
		return 12, true
	case btfStruct, btfUnion, btfDataSec, btfEnum64:
		return 12 * n, true
	case btfEnum, btfFuncProto:
		return 8 * n, true
	}
	return 0, kind > 0 && kind <= btfLast
}

// named tells whether something has this name.
func (x *btfInfo) named(at uint32, name string) bool {
	end := uint64(at) + uint64(len(name))
	return end < uint64(len(x.names)) && string(x.names[at:end]) == name && x.names[end] == 0
}

// member returns the offset in bytes of a struct's member; -1 if it has none of
// that name.
func (x *btfInfo) member(t *btfType, name string) int {
	le := binary.NativeEndian
	for m := t.rest; len(m) >= 12; m = m[12:] {
		if x.named(le.Uint32(m), name) {
			return int(le.Uint32(m[8:])&0xffffff) / 8
		}
	}
	return -1
}
