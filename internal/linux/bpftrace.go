package linux

import (
	"golang.org/x/sys/unix"
)

// From include/uapi/linux/bpf.h, Linux 4.17; see bpf(2).
const (
	BPF_RAW_TRACEPOINT_OPEN      = 17
	BPF_PROG_TYPE_RAW_TRACEPOINT = 17
)

// bpfRawTracepoint is the part of union bpf_attr for BPF_RAW_TRACEPOINT_OPEN.
type bpfRawTracepoint struct {
	Name      *byte
	ProgFD, _ uint32
}

// BPFTrace has a program called at a tracepoint of the kernel's, as sys_enter, for as
// long as the descriptor is open that it returns. It needs CAP_BPF and CAP_PERFMON.
func BPFTrace(name string, prog []BPFInsn, license string) (int, error) {
	n, err := bpfLoad(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, prog, license)
	if err != nil {
		return -1, err
	}
	defer unix.Close(n)
	return bpf(BPF_RAW_TRACEPOINT_OPEN, &bpfRawTracepoint{Name: cString(name), ProgFD: uint32(n)})
}
