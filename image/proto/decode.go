package proto

import (
	"encoding/binary"
	"errors"

	"glis.dev/glis/image/protowire"
)

var (
	errDecode = errors.New("cannot parse invalid wire-format data")
	errDepth  = errors.New("messages are nested too deeply")
)

// deepest is how deeply messages may be nested.
const deepest = 10000

// Decoder stands at one field of a message.
type Decoder struct {
	// Tag is the field's number, times eight, and its type.
	Tag uint64

	num   uint64 // the value, if it is a number
	bytes []byte // the value, if it is bytes
	depth int
	err   error // of a value that couldn't be taken

	// Values that fields point to: many in one piece of memory.
	u32   []uint32
	u64   []uint64
	again bool // this is not the first message: strings and messages, too
	hoard hoard
}

// message reads all fields of m.
func (d *Decoder) message(b []byte, m Message) error {
	if d.depth++; d.depth > deepest {
		return errDepth
	}
	err := d.fields(b, m)
	d.depth--
	return err
}

func (d *Decoder) fields(b []byte, m Message) error {
	for len(b) > 0 {
		tag, n := d.field(b)
		if n < 0 {
			return errDecode
		}
		if !m.ReadField(d) {
			m.SetUnknown(append(protowire.AppendVarint(m.Unknown(), d.Tag), b[tag:n]...))
		}
		if d.err != nil {
			return d.err
		}
		b = b[n:]
	}
	return nil
}

// field reads the field that b begins with and returns the length of its tag,
// and of all of it, below zero if it can't be read.
func (d *Decoder) field(b []byte) (tag, n int) {
	if n = d.short(b); n > 0 {
		return 1, n
	}
	num, typ, tag := protowire.ConsumeTag(b)
	if tag < 0 || num > protowire.MaxValidNumber {
		return 0, -1
	}
	d.Tag = uint64(num)<<3 | uint64(typ)
	size := 0
	switch rest := b[tag:]; typ {
	case protowire.VarintType:
		d.num, size = protowire.ConsumeVarint(rest)
	case protowire.BytesType:
		d.bytes, size = protowire.ConsumeBytes(rest)
	default:
		if size = protowire.ConsumeFieldValue(num, typ, rest); size >= 0 {
			d.fixed(typ, rest)
		}
	}
	if size < 0 {
		return 0, -1
	}
	return tag, tag + size
}

// short is field for most of them: a tag of one byte, and a value, or its length, of one.
// It returns zero for all others.
func (d *Decoder) short(b []byte) (n int) {
	if len(b) < 2 || b[0] < byte(protowire.MinValidNumber)<<3 || b[0] > 0x7f || b[1] > 0x7f {
		return 0
	}
	d.Tag = uint64(b[0])
	switch protowire.Type(b[0] & 7) {
	case protowire.VarintType:
		d.num = uint64(b[1])
		return 2
	case protowire.BytesType:
		n = 2 + int(b[1])
		if n > len(b) {
			return 0
		}
		d.bytes = b[2:n:n]
		return n
	}
	return 0
}

func (d *Decoder) fixed(typ protowire.Type, b []byte) {
	switch typ {
	case protowire.Fixed32Type:
		d.num = uint64(binary.LittleEndian.Uint32(b))
	case protowire.Fixed64Type:
		d.num = binary.LittleEndian.Uint64(b)
	}
}

// slab is how many values are kept in one piece of memory.
const slab = 32

// Uint32 takes the value as a number of 32 bits.
func (d *Decoder) Uint32(at **uint32) {
	if len(d.u32) == 0 {
		d.u32 = make([]uint32, slab)
	}
	d.u32[0] = uint32(d.num)
	*at, d.u32 = &d.u32[0], d.u32[1:]
}

// Reuse has numbers of 32 bits of messages to come be put into room, as many as there
// is room for: what earlier ones have there is lost.
func (d *Decoder) Reuse(room []uint32) { d.u32 = room }

// Uint64 takes the value as a number of 64 bits.
func (d *Decoder) Uint64(at **uint64) {
	if len(d.u64) == 0 {
		d.u64 = make([]uint64, slab)
	}
	d.u64[0] = d.num
	*at, d.u64 = &d.u64[0], d.u64[1:]
}

// Int32 takes the value as a number of 32 bits.
func (d *Decoder) Int32(at **int32) { Number(d, at) }

// Int64 takes the value as a number of 64 bits.
func (d *Decoder) Int64(at **int64) { Number(d, at) }

// Sint32 takes the value as a number of 32 bits, see AppendZigZag.
func (d *Decoder) Sint32(at **int32) {
	v := uint32(d.num)
	*at = Int32(int32(v>>1) ^ -int32(v&1))
}

// Sint64 takes the value as a number of 64 bits, see AppendZigZag.
func (d *Decoder) Sint64(at **int64) {
	*at = Int64(int64(d.num>>1) ^ -int64(d.num&1))
}

// Number takes the value as a number, or one of a list of names.
func Number[T number](d *Decoder, at **T) {
	if d.again {
		*at = New[T](d)
	} else {
		*at = new(T)
	}
	**at = T(d.num)
}

// Numbers adds the value, a number or many of them, to a list.
func Numbers[T number](d *Decoder, at *[]T) {
	if protowire.Type(d.Tag&7) != protowire.BytesType {
		*at = append(*at, T(d.num))
		return
	}
	if *at == nil {
		*at = listOf[T](d)
	}
	for b := d.bytes; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			d.err = errDecode
			return
		}
		*at = append(*at, T(v))
		b = b[n:]
	}
}

// listOf returns an empty list with room for the numbers of the value; nil if there are none.
// Short ones of 32 bits are kept with others.
func listOf[T number](d *Decoder) []T {
	n := 0
	for _, c := range d.bytes {
		if c < 0x80 { // it ends a number
			n++
		}
	}
	_, of32 := any([]T(nil)).([]uint32)
	switch {
	case n == 0:
		return nil
	case !of32 || n > slab/4 || !d.again:
		return make([]T, 0, n)
	case len(d.u32) < n:
		d.u32 = make([]uint32, slab)
	}
	list := d.u32[:0:n]
	d.u32 = d.u32[n:]
	return any(list).([]T)
}

// Fixed64s adds the value, a number of eight bytes or many of them, to a list.
func (d *Decoder) Fixed64s(at *[]uint64) {
	if protowire.Type(d.Tag&7) != protowire.BytesType {
		*at = append(*at, d.num)
		return
	}
	b := d.bytes
	for ; len(b) >= 8; b = b[8:] {
		*at = append(*at, binary.LittleEndian.Uint64(b))
	}
	if len(b) > 0 {
		d.err = errDecode
	}
}

// Bool takes the value as a truth value.
func (d *Decoder) Bool(at **bool) {
	v := protowire.DecodeBool(d.num)
	*at = &v
}

// Bools adds the value, a truth value or many of them, to a list.
func (d *Decoder) Bools(at *[]bool) {
	var all []uint64
	Numbers(d, &all)
	for _, v := range all {
		*at = append(*at, protowire.DecodeBool(v))
	}
}

// String takes the value as a string.
func (d *Decoder) String(at **string) {
	if d.again {
		*at = d.hoard.string(d.bytes)
		return
	}
	v := string(d.bytes)
	*at = &v
}

// Strings adds the value to a list.
func (d *Decoder) Strings(at *[]string) { *at = append(*at, string(d.bytes)) }

// Bytes takes the value as bytes, never nil.
func (d *Decoder) Bytes(at *[]byte) { *at = append([]byte{}, d.bytes...) }

// BytesList adds the value to a list.
func (d *Decoder) BytesList(at *[][]byte) { *at = append(*at, append([]byte{}, d.bytes...)) }

// Message adds the value's fields to m.
func (d *Decoder) Message(m Message) {
	if err := d.message(d.bytes, m); err != nil {
		d.err = err
	}
}
