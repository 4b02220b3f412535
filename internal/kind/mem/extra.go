package mem

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// What criu's messages can't say travels in them as fields that criu does not
// know and skips.

// Fields of ours in VmaEntry.
const (
	vmaExtra protowire.Number = 1500 // varint, extra* below
	vmaName  protowire.Number = 1501 // bytes: PR_SET_VMA_ANON_NAME
)

// Fields of ours in MmEntry.
const (
	mmExtra protowire.Number = 1500 // varint, mmExtra* below
	mmAuxv  protowire.Number = 1501 // bytes: what follows the values that fit into criu
	mmTHP   protowire.Number = 1502 // varint: flags of PR_SET_THP_DISABLE
)

const (
	extraLockOnFault = 1 << 0 // mlock2(MLOCK_ONFAULT)
	extraSealed      = 1 << 1 // mseal(2)
)

// mmExtraCow says that a page in a parent checkpoint is, in fact, the same
// page of memory as the parent task's.
const mmExtraCow = 1 << 0

// putVarint adds a field of ours.
func putVarint(m proto.Message, n protowire.Number, v uint64) {
	r := m.ProtoReflect()
	b := protowire.AppendTag(r.GetUnknown(), n, protowire.VarintType)
	r.SetUnknown(protowire.AppendVarint(b, v))
}

func putBytes(m proto.Message, n protowire.Number, v []byte) {
	r := m.ProtoReflect()
	b := protowire.AppendTag(r.GetUnknown(), n, protowire.BytesType)
	r.SetUnknown(protowire.AppendBytes(b, v))
}

// extras calls f for every field of m that its type lacks; v or b is its
// value.
func extras(m proto.Message, f func(n protowire.Number, v uint64, b []byte)) error {
	for rest := []byte(m.ProtoReflect().GetUnknown()); len(rest) > 0; {
		n, typ, size := protowire.ConsumeTag(rest)
		if size < 0 {
			return protowire.ParseError(size)
		}
		rest = rest[size:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(rest)
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(rest)
		default:
			size = protowire.ConsumeFieldValue(n, typ, rest)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		f(n, v, b)
		rest = rest[size:]
	}
	return nil
}
