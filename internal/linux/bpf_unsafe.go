package linux

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/bpf.h; see bpf(2).
const (
	BPF_MAP_CREATE  = 0
	BPF_PROG_LOAD   = 5
	BPF_LINK_CREATE = 28 // Linux 5.7
	BPF_ITER_CREATE = 33 // Linux 5.8

	BPF_MAP_TYPE_ARRAY    = 2
	BPF_PROG_TYPE_TRACING = 26 // Linux 5.5
	BPF_TRACE_ITER        = 28 // Linux 5.8
)

// BPFInsn is struct bpf_insn.
type BPFInsn struct {
	Code uint8
	Regs uint8 // destination in the low half, source in the high one
	Off  int16
	Imm  int32
}

func bpf(cmd uintptr, attr []byte) (int, error) {
	r, _, e := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(&attr[0])), uintptr(len(attr)))
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}

// BPFArray creates an array map with one value of size bytes and returns its
// descriptor. It needs CAP_BPF (Linux 5.8).
func BPFArray(size int) (int, error) {
	attr := make([]byte, 72)
	le := binary.NativeEndian
	le.PutUint32(attr, BPF_MAP_TYPE_ARRAY)
	le.PutUint32(attr[4:], 4)
	le.PutUint32(attr[8:], uint32(size))
	le.PutUint32(attr[12:], 1)
	return bpf(BPF_MAP_CREATE, attr)
}

// BPFLoadIterator loads a program that is called by the iterator whose function
// has this type id in the kernel's BTF, and returns its descriptor. It needs
// CAP_BPF and CAP_PERFMON (Linux 5.8).
func BPFLoadIterator(prog []BPFInsn, license string, function uint32) (int, error) {
	attr := make([]byte, 120)
	le := binary.NativeEndian
	text := append([]byte(license), 0)
	le.PutUint32(attr, BPF_PROG_TYPE_TRACING)
	le.PutUint32(attr[4:], uint32(len(prog)))
	le.PutUint64(attr[8:], uint64(uintptr(unsafe.Pointer(&prog[0]))))
	le.PutUint64(attr[16:], uint64(uintptr(unsafe.Pointer(&text[0]))))
	le.PutUint32(attr[68:], BPF_TRACE_ITER)
	le.PutUint32(attr[108:], function)
	n, err := bpf(BPF_PROG_LOAD, attr)
	runtime.KeepAlive(prog)
	runtime.KeepAlive(text)
	return n, err
}

// BPFTaskIterator makes an iterator over the files (or threads, memory, as the
// program's kind is) of the process behind a pidfd, and returns a descriptor to
// read what the program writes. Linux 6.1.
func BPFTaskIterator(prog, pidfd int) (int, error) {
	attr := make([]byte, 64)
	info := make([]byte, 16)
	le := binary.NativeEndian
	le.PutUint32(info[8:], uint32(pidfd))
	le.PutUint32(attr, uint32(prog))
	le.PutUint32(attr[8:], BPF_TRACE_ITER)
	le.PutUint64(attr[16:], uint64(uintptr(unsafe.Pointer(&info[0]))))
	le.PutUint32(attr[24:], uint32(len(info)))
	link, err := bpf(BPF_LINK_CREATE, attr)
	runtime.KeepAlive(info)
	if err != nil {
		return -1, err
	}
	defer unix.Close(link)
	attr = make([]byte, 8)
	le.PutUint32(attr, uint32(link))
	return bpf(BPF_ITER_CREATE, attr)
}
