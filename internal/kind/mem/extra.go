package mem

import (
	"glis.dev/glis/image/proto"
	"glis.dev/glis/image/protowire"
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
	mmElder protowire.Number = 1503 // varint: number of the elder, see elder.go
)

const (
	extraLockOnFault = 1 << 0 // mlock2(MLOCK_ONFAULT)
	extraSealed      = 1 << 1 // mseal(2)
)

// Fields of ours in IpcShmEntry: which segment it was, see shmctl(2).
const (
	shmChanged protowire.Number = 1500 // varint: shm_ctime, in s since 1970
	shmCreator protowire.Number = 1501 // varint: shm_cpid
)

// mmExtraCow says that a page in a parent checkpoint is, in fact, the same
// page of memory as the parent task's.
const mmExtraCow = 1 << 0

// mmExtraElder says that it is the same page as its elder's instead. Who doesn't know of
// that compares contents.
const mmExtraElder = 1 << 1

// putVarint adds a field of ours.
func putVarint(m proto.Message, n protowire.Number, v uint64) {
	b := protowire.AppendTag(m.Unknown(), n, protowire.VarintType)
	m.SetUnknown(protowire.AppendVarint(b, v))
}

func putBytes(m proto.Message, n protowire.Number, v []byte) {
	b := protowire.AppendTag(m.Unknown(), n, protowire.BytesType)
	m.SetUnknown(protowire.AppendBytes(b, v))
}
