package linux

import "encoding/binary"

// From include/uapi/linux/prctl.h; see prctl(2).
const (
	PR_SET_MM               = 35
	PR_SET_MM_MAP           = 14 // Linux 3.18
	PR_GET_TID_ADDRESS      = 40
	PR_SET_THP_DISABLE      = 41
	PR_GET_THP_DISABLE      = 42
	PR_SET_CHILD_SUBREAPER  = 36
	PR_GET_CHILD_SUBREAPER  = 37
	PR_SET_VMA              = 0x53564d41
	PR_SET_VMA_ANON_NAME    = 0
	PrctlMMMapSize          = 104
	ArchMapVdso64           = 0x2003 // ARCH_MAP_VDSO_64, asm/prctl.h
	SS_DISABLE              = 2
	SS_ONSTACK              = 1
	SS_AUTODISARM           = 1 << 31
	KernelSigsetSize        = 8
	KernelSigactionSize     = 32
	NSIG                    = 64
	MADV_WIPEONFORK         = 18
	MAP_DROPPABLE           = 8
	SECCOMP_MODE_STRICT     = 1
	SECCOMP_MODE_FILTER     = 2
	LINUX_CAPABILITY_VERSN3 = 0x20080522
)

// PrctlMMMap is struct prctl_mm_map: what PR_SET_MM_MAP sets in one go.
// Unlike the single PR_SET_MM_* operations it needs no CAP_SYS_RESOURCE.
type PrctlMMMap struct {
	StartCode, EndCode, StartData, EndData   uint64
	StartBrk, Brk, StartStack                uint64
	ArgStart, ArgEnd, EnvStart, EnvEnd, Auxv uint64
	AuxvSize, ExeFD                          uint32
}

// Bytes returns the structure as prctl(2) reads it.
func (m *PrctlMMMap) Bytes() []byte {
	b := make([]byte, 0, PrctlMMMapSize)
	for _, v := range [...]uint64{m.StartCode, m.EndCode, m.StartData, m.EndData, m.StartBrk, m.Brk, m.StartStack, m.ArgStart, m.ArgEnd, m.EnvStart, m.EnvEnd, m.Auxv} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, m.AuxvSize)
	return binary.LittleEndian.AppendUint32(b, m.ExeFD)
}

// From include/uapi/linux/prctl.h, Linux 6.15: whether timer_create(2) takes
// the number that the new timer is to have.
const (
	PR_TIMER_CREATE_RESTORE_IDS     = 77
	PR_TIMER_CREATE_RESTORE_IDS_OFF = 0
	PR_TIMER_CREATE_RESTORE_IDS_ON  = 1
	PR_TIMER_CREATE_RESTORE_IDS_GET = 2
)

// PIDTYPE_PID stands for one thread in PR_SCHED_CORE, see core-scheduling.rst
// of the kernel's documentation.
const PIDTYPE_PID = 0
