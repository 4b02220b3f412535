package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrCut is an answer that ends too early.
var ErrCut = errors.New("sock_diag: answer is cut")

const attrHeader = 4 // struct nlattr: u16 length with header, u16 type

// attributes calls fn with every attribute of b. The type comes without
// NLA_F_NESTED and NLA_F_NET_BYTEORDER, the value is part of b.
func attributes(b []byte, fn func(typ uint16, value []byte) error) error {
	for len(b) >= attrHeader {
		n := int(binary.NativeEndian.Uint16(b))
		typ := binary.NativeEndian.Uint16(b[2:]) & 0x3fff
		if n < attrHeader || n > len(b) {
			return fmt.Errorf("%w: attribute %d of %d bytes, %d are left", ErrCut, typ, n, len(b))
		}
		if err := fn(typ, b[attrHeader:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// word returns the first 32-bit word of an attribute's value.
func word(typ uint16, value []byte) (uint32, error) {
	if len(value) < 4 {
		return 0, fmt.Errorf("%w: attribute %d has %d bytes", ErrCut, typ, len(value))
	}
	return binary.NativeEndian.Uint32(value), nil
}
