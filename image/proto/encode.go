package proto

import (
	"encoding/binary"

	"glis.dev/glis/image/protowire"
)

// What AppendFields of a message is made of: each appends one field, number
// and value, or nothing if it isn't there.

type number interface {
	~int32 | ~int64 | ~uint32 | ~uint64
}

// AppendVarint appends a number. A negative one takes ten bytes.
func AppendVarint[T number](b []byte, n protowire.Number, v *T) []byte {
	if v == nil {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(*v))
}

// AppendZigZag appends a number so that small negative ones are short, too.
func AppendZigZag[T ~int32 | ~int64](b []byte, n protowire.Number, v *T) []byte {
	if v == nil {
		return b
	}
	x := int64(*v)
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(x<<1)^uint64(x>>63))
}

// AppendBool appends a truth value.
func AppendBool(b []byte, n protowire.Number, v *bool) []byte {
	if v == nil {
		return b
	}
	return append(protowire.AppendTag(b, n, protowire.VarintType), bit(*v))
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// AppendFixed32 appends a number of four bytes.
func AppendFixed32[T ~int32 | ~uint32](b []byte, n protowire.Number, v *T) []byte {
	if v == nil {
		return b
	}
	return binary.LittleEndian.AppendUint32(protowire.AppendTag(b, n, protowire.Fixed32Type), uint32(*v))
}

// AppendFixed64 appends a number of eight bytes.
func AppendFixed64[T ~int64 | ~uint64](b []byte, n protowire.Number, v *T) []byte {
	if v == nil {
		return b
	}
	return binary.LittleEndian.AppendUint64(protowire.AppendTag(b, n, protowire.Fixed64Type), uint64(*v))
}

// AppendFixed64s appends a number of eight bytes for each of v.
func AppendFixed64s(b []byte, n protowire.Number, v []uint64) []byte {
	for i := range v {
		b = AppendFixed64(b, n, &v[i])
	}
	return b
}

// AppendString appends a string.
func AppendString(b []byte, n protowire.Number, v *string) []byte {
	if v == nil {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), *v)
}

// AppendBytes appends bytes; nil are not there.
func AppendBytes(b []byte, n protowire.Number, v []byte) []byte {
	if v == nil {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// AppendVarints appends a number for each of v.
func AppendVarints[T number](b []byte, n protowire.Number, v []T) []byte {
	for i := range v {
		b = AppendVarint(b, n, &v[i])
	}
	return b
}

// AppendPacked appends all numbers as one field.
func AppendPacked[T number](b []byte, n protowire.Number, v []T) []byte {
	if len(v) == 0 {
		return b
	}
	b, at := begin(b, n)
	for _, x := range v {
		b = protowire.AppendVarint(b, uint64(x))
	}
	return end(b, at)
}

// AppendBools appends a truth value for each of v.
func AppendBools(b []byte, n protowire.Number, v []bool) []byte {
	for i := range v {
		b = AppendBool(b, n, &v[i])
	}
	return b
}

// AppendStrings appends a field for each of v.
func AppendStrings(b []byte, n protowire.Number, v []string) []byte {
	for i := range v {
		b = AppendString(b, n, &v[i])
	}
	return b
}

// AppendBytesList appends a field for each of v.
func AppendBytesList(b []byte, n protowire.Number, v [][]byte) []byte {
	for _, x := range v {
		b = protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), x)
	}
	return b
}

// AppendMessage appends a message, which is not nil.
func AppendMessage(b []byte, n protowire.Number, m Message) []byte {
	b, at := begin(b, n)
	return end(m.AppendFields(b), at)
}

// begin appends what precedes a value whose length is not known yet.
func begin(b []byte, n protowire.Number) (_ []byte, at int) {
	b = append(protowire.AppendTag(b, n, protowire.BytesType), 0)
	return b, len(b)
}

// end writes the length before a value that begins at at. Most take a byte,
// for which there is room.
func end(b []byte, at int) []byte {
	size := uint64(len(b) - at)
	more := protowire.SizeVarint(size) - 1
	if more > 0 {
		b = append(b, make([]byte, more)...)
		copy(b[at+more:], b[at:])
	}
	protowire.AppendVarint(b[:at-1], size)
	return b
}
