package image

import (
	"encoding/binary"

	"glis.dev/glis/image/proto"
	"glis.dev/glis/image/protowire"
)

// Own returns the row of an additional image of Glis's own, which criu's format
// has no place for. So that crit, criu's and go-criu's, decodes such a file like
// all others it has the magic of criu's pidns images: their message has a single
// field, number 1, an optional string. The first entry tells in it what the file
// really is, and messages made by entry leave number 1 alone, or have a string in
// it that is worth to be shown. crit passes over all other fields; criu itself
// opens only files whose names it knows.
func Own(name string, entry func() proto.Message) *Row {
	return &Row{Name: name, Pattern: name + ".img", Magic: magicPidNS, Common: CommonMagic, New: entry, title: name}
}

// OwnMany is Own for a file that may have thousands of entries.
func OwnMany[T any, M message[T]](name string) *Row {
	r := Own(name, of[T, M])
	r.many = manyOf[T, M]
	return r
}

// ownTitle is the number of the only field that crit knows.
const ownTitle protowire.Number = 1

// header appends what a file of the row begins with.
func (r *Row) header(b []byte) []byte {
	if r.Common != 0 {
		b = binary.LittleEndian.AppendUint32(b, r.Common)
	}
	return append(binary.LittleEndian.AppendUint32(b, r.Magic), r.first()...)
}

// first is the entry that tells what an image of Glis's own is; of others there
// is none.
func (r *Row) first() []byte {
	if r.title == "" {
		return nil
	}
	m := protowire.AppendString(protowire.AppendTag(nil, ownTitle, protowire.BytesType), r.title)
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(m))), m...)
}
