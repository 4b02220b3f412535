package dump

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// From include/uapi/linux/bpf.h, Linux 4.17; see bpf(2).
const (
	rawTracepointOpen = 17 // BPF_RAW_TRACEPOINT_OPEN
	rawTracepoint     = 17 // BPF_PROG_TYPE_RAW_TRACEPOINT
)

// traced has a program called at a tracepoint of the kernel's, as sys_enter, for as
// long as the descriptor is open that it returns. It needs CAP_BPF and CAP_PERFMON.
func traced(t testing.TB, name string, prog []bpf.Insn) (int, error) {
	t.Helper()
	license := append([]byte(bpf.License), 0)
	loaded, err := bpfCall(linux.BPF_PROG_LOAD, &struct { // the part of union bpf_attr for it
		kind, insns    uint32
		insn           *bpf.Insn
		license        *byte
		_, _           uint32
		_              uint64
		version, flags uint32
	}{kind: rawTracepoint, insns: uint32(len(prog)), insn: &prog[0], license: &license[0]})
	if err != nil {
		return -1, err
	}
	defer unix.Close(loaded)
	at := append([]byte(name), 0)
	return bpfCall(rawTracepointOpen, &struct {
		name    *byte
		prog, _ uint32
	}{name: &at[0], prog: uint32(loaded)})
}

// bpfCall is bpf(2). A signal of Go's ends the check of a program (EAGAIN).
func bpfCall[T any](cmd uintptr, attr *T) (int, error) {
	for {
		r, _, e := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		switch {
		case e == 0:
			return int(r), nil
		case cmd != linux.BPF_PROG_LOAD || e != unix.EAGAIN:
			return -1, e
		}
	}
}
