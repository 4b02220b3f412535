package linux

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

type (
	bpfByID struct {
		ID, NextID, OpenFlags uint32
	}
	bpfObject struct {
		Pathname  *byte
		FD, Flags uint32
		_, _      uint32
	}
	bpfInfo struct {
		FD, InfoLen uint32
		Info        *byte
	}
)

// BPFProg is what the kernel tells of a BPF program.
type BPFProg struct {
	Type, ID uint32
	Tag      [8]byte // tells its instructions
}

// BPFProgByID returns a descriptor of the program of this number. It needs
// CAP_SYS_ADMIN (Linux 4.13).
func BPFProgByID(id uint32) (int, error) {
	return bpf(BPF_PROG_GET_FD_BY_ID, &bpfByID{ID: id})
}

// BPFProgInfo tells what a program is (Linux 4.13).
func BPFProgInfo(fd int) (BPFProg, error) {
	var b [16]byte // the head of struct bpf_prog_info
	_, err := bpf(BPF_OBJ_GET_INFO_BY_FD, &bpfInfo{FD: uint32(fd), InfoLen: uint32(len(b)), Info: &b[0]})
	ne := binary.NativeEndian
	return BPFProg{Type: ne.Uint32(b[:]), ID: ne.Uint32(b[4:]), Tag: [8]byte(b[8:])}, err
}

// BPFPin gives a program a name in a BPF file system, which keeps it.
func BPFPin(fd int, path string) error {
	_, err := bpf(BPF_OBJ_PIN, &bpfObject{Pathname: cString(path), FD: uint32(fd)})
	return err
}

// BPFOpen returns a descriptor of what has a name in a BPF file system.
func BPFOpen(path string) (int, error) {
	return bpf(BPF_OBJ_GET, &bpfObject{Pathname: cString(path)})
}

func cString(s string) *byte { return unsafe.SliceData(append(bytes.Clone([]byte(s)), 0)) }
