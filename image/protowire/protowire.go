// Package protowire is the wire format of protocol buffers: tags, numbers and
// bytes, see https://protobuf.dev/programming-guides/encoding. It has the
// names and the meaning of google.golang.org/protobuf/encoding/protowire, of
// which it is the part that images need. That package reads the program's own
// file when it is loaded, which takes as long as a small process is frozen.
package protowire

import (
	"errors"
	"io"
	"math"
	"math/bits"
)

// Number is the number of a field.
type Number int32

// Field numbers there may be.
const (
	MinValidNumber Number = 1
	MaxValidNumber Number = 1<<29 - 1
)

// Type says how a field's value is encoded.
type Type int8

// The types there are.
const (
	VarintType     Type = 0
	Fixed64Type    Type = 1
	BytesType      Type = 2
	StartGroupType Type = 3
	EndGroupType   Type = 4
	Fixed32Type    Type = 5
)

// What is wrong with a message is told by a length below zero.
const (
	cut = -1 - iota
	badNumber
	overflow
	badType
	badEnd
	tooDeep
)

var parseErrors = [...]error{
	-cut:       io.ErrUnexpectedEOF,
	-badNumber: errors.New("invalid field number"),
	-overflow:  errors.New("variable length integer overflow"),
	-badType:   errors.New("cannot parse reserved wire type"),
	-badEnd:    errors.New("mismatching end group marker"),
	-tooDeep:   errors.New("groups are nested too deeply"),
}

// ParseError returns the error that a length below zero stands for, else nil.
func ParseError(n int) error {
	switch {
	case n >= 0:
		return nil
	case -n < len(parseErrors):
		return parseErrors[-n]
	}
	return errors.New("parse error")
}

// AppendVarint appends a number.
func AppendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// ConsumeVarint reads a number and returns it with its length in bytes.
func ConsumeVarint(b []byte) (v uint64, n int) {
	for i, c := range b {
		if i == 9 && c > 1 {
			return 0, overflow
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, cut
}

// SizeVarint returns the length of a number in bytes, 1 to 10.
func SizeVarint(v uint64) int { return int(9*uint32(bits.Len64(v))+64) / 64 }

// AppendTag appends what precedes a value.
func AppendTag(b []byte, n Number, t Type) []byte {
	return AppendVarint(b, uint64(n)<<3|uint64(t&7))
}

// ConsumeTag reads what precedes a value and returns its length in bytes. The
// number may be one that no message has, above MaxValidNumber.
func ConsumeTag(b []byte) (Number, Type, int) {
	v, n := ConsumeVarint(b)
	if n < 0 {
		return 0, 0, n
	}
	if num := v >> 3; num < uint64(MinValidNumber) || num > math.MaxInt32 {
		return 0, 0, badNumber
	}
	return Number(v >> 3), Type(v & 7), n
}

// SizeTag returns the length in bytes of what precedes a value.
func SizeTag(n Number) int { return SizeVarint(uint64(n) << 3) }

// AppendBytes appends bytes with their length before them.
func AppendBytes(b, v []byte) []byte {
	return append(AppendVarint(b, uint64(len(v))), v...)
}

// AppendString is AppendBytes of a string.
func AppendString(b []byte, v string) []byte {
	return append(AppendVarint(b, uint64(len(v))), v...)
}

// ConsumeBytes reads bytes, which are a part of b, and returns how long they
// are with their length before them.
func ConsumeBytes(b []byte) ([]byte, int) {
	l, n := ConsumeVarint(b)
	if n < 0 {
		return nil, n
	}
	if l > uint64(len(b)-n) {
		return nil, cut
	}
	return b[n : n+int(l) : n+int(l)], n + int(l)
}

// ConsumeField reads a tag and its value, and returns the length of both.
func ConsumeField(b []byte) (Number, Type, int) {
	num, typ, n := ConsumeTag(b)
	if n < 0 {
		return 0, 0, n
	}
	v := ConsumeFieldValue(num, typ, b[n:])
	if v < 0 {
		return 0, 0, v
	}
	return num, typ, n + v
}

// mostGroups is how deeply groups may be nested.
const mostGroups = 10000

// ConsumeFieldValue returns the length of the value of field num.
func ConsumeFieldValue(num Number, typ Type, b []byte) int {
	n := consumeScalar(typ, b)
	if n != badType || typ != StartGroupType {
		return n
	}
	return consumeGroup(num, b)
}

func consumeScalar(typ Type, b []byte) (n int) {
	switch typ {
	case VarintType:
		_, n = ConsumeVarint(b)
	case BytesType:
		_, n = ConsumeBytes(b)
	case Fixed32Type:
		n = fixed(b, 4)
	case Fixed64Type:
		n = fixed(b, 8)
	case EndGroupType:
		n = badEnd
	default:
		n = badType
	}
	return n
}

func fixed(b []byte, n int) int {
	if len(b) < n {
		return cut
	}
	return n
}

// consumeGroup returns the length of a group up to and with its end.
func consumeGroup(num Number, b []byte) int {
	open := []Number{num}
	all := len(b)
	for len(open) > 0 {
		num, typ, n := ConsumeTag(b)
		if n < 0 {
			return n
		}
		b = b[n:]
		switch typ {
		case StartGroupType:
			if len(open) >= mostGroups {
				return tooDeep
			}
			open = append(open, num)
		case EndGroupType:
			if num != open[len(open)-1] {
				return badEnd
			}
			open = open[:len(open)-1]
		default:
			v := consumeScalar(typ, b)
			if v < 0 {
				return v
			}
			b = b[v:]
		}
	}
	return all - len(b)
}

// DecodeBool tells whether a number stands for true.
func DecodeBool(v uint64) bool { return v != 0 }
