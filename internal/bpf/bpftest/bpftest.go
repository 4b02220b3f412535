// Package bpftest makes type information up, for tests.
package bpftest

import "encoding/binary"

// File builds a BTF file of the words of types, and names.
func File(types []uint32, names string) []byte {
	le := binary.NativeEndian
	b := le.AppendUint16(nil, 0xeb9f)
	b = append(b, 1, 0)
	for _, v := range []uint32{24, 0, uint32(4 * len(types)), uint32(4 * len(types)), uint32(len(names))} {
		b = le.AppendUint32(b, v)
	}
	for _, v := range types {
		b = le.AppendUint32(b, v)
	}
	return append(b, names...)
}
