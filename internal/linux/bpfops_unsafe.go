package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	BPF_BTF_LOAD             = 18 // Linux 4.18
	BPF_MAP_TYPE_STRUCT_OPS  = 26 // Linux 5.6
	BPF_PROG_TYPE_STRUCT_OPS = 27
	BPF_STRUCT_OPS           = 44
	BPF_F_LINK               = 1 << 13 // Linux 6.4
)

// bpfMapCreateOps is the part of union bpf_attr for BPF_MAP_CREATE, up to what a map
// of functions needs.
type bpfMapCreateOps struct {
	bpfMapCreate
	_, _                            uint32 // inner_map_fd, numa_node
	Name                            [16]byte
	Ifindex, BTFFD                  uint32
	KeyType, ValueType, VMLinuxType uint32
}

// bpfBTFLoad is the part of union bpf_attr for BPF_BTF_LOAD.
type bpfBTFLoad struct {
	BTF, LogBuf                *byte
	Size, LogSize, LogLevel, _ uint32
}

// bpfNoTypes loads type information of the caller's own that tells of nothing but
// an int, and returns its descriptor.
func bpfNoTypes() (int, error) {
	b := []byte{0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0, 3, 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 32, 0, 0, 0, // an int of 32 bits, with the name at 1
		0, 'i', 0}
	return bpf(BPF_BTF_LOAD, &bpfBTFLoad{BTF: &b[0], Size: uint32(len(b))})
}

// BPFLoadOp loads a program that takes the place of a function: the member at an
// index of a structure of functions, which has this type id in the kernel's BTF. It
// needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (Linux 5.6).
func BPFLoadOp(prog []BPFInsn, license string, structure, member uint32) (int, error) {
	text := append([]byte(license), 0)
	return bpf(BPF_PROG_LOAD, &bpfProgLoad{
		ProgType: BPF_PROG_TYPE_STRUCT_OPS, InsnCnt: uint32(len(prog)), Insns: unsafe.SliceData(prog), License: &text[0],
		ExpectedAttachType: member, AttachBTFID: structure,
	})
}

// BPFRegisterOps makes a structure of functions known to the kernel, for as long as
// the link is open whose descriptor it returns, and whatever uses it. value is a
// structure bpf_struct_ops_NAME of the kernel's with this type id, in which functions
// are descriptors of BPFLoadOp (Linux 6.4).
func BPFRegisterOps(value []byte, id uint32) (link int, err error) {
	types, err := bpfNoTypes() // the kernel wants some, and doesn't look at them
	if err != nil {
		return -1, err
	}
	defer unix.Close(types)
	m, err := bpf(BPF_MAP_CREATE, &bpfMapCreateOps{
		bpfMapCreate: bpfMapCreate{MapType: BPF_MAP_TYPE_STRUCT_OPS, KeySize: 4, ValueSize: uint32(len(value)), MaxEntries: 1, Flags: BPF_F_LINK},
		BTFFD:        uint32(types), VMLinuxType: id,
	})
	if err != nil {
		return -1, err
	}
	defer unix.Close(m)
	if err := BPFUpdate(m, 0, value); err != nil {
		return -1, err
	}
	return bpf(BPF_LINK_CREATE, &bpfLinkCreate{ProgFD: uint32(m), AttachType: BPF_STRUCT_OPS})
}
