package linux

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
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
	// bpfProgInfo is the head of struct bpf_prog_info.
	bpfProgInfo struct {
		Type, ID                uint32
		Tag                     [8]byte
		JitedLen, XlatedLen     uint32
		Jited, Xlated, LoadTime uint64
		UID, NMaps              uint32
		Maps                    *uint32
	}
)

// mostMaps is how many maps a program may have (MAX_USED_MAPS,
// include/linux/bpf_verifier.h).
const mostMaps = 64

// BPFProg is what the kernel tells of a BPF program.
type BPFProg struct {
	Type, ID uint32
	Tag      [8]byte  // tells its instructions
	Maps     []uint32 // numbers of the maps that it has
}

// BPFProgByID returns a descriptor of the program of this number. It needs
// CAP_SYS_ADMIN (Linux 4.13).
func BPFProgByID(id uint32) (int, error) {
	return bpf(BPF_PROG_GET_FD_BY_ID, &bpfByID{ID: id})
}

// BPFProgInfo tells what a program is (Linux 4.13).
func BPFProgInfo(fd int) (BPFProg, error) {
	maps := make([]uint32, mostMaps)
	p := bpfProgInfo{NMaps: mostMaps, Maps: &maps[0]}
	_, err := bpf(BPF_OBJ_GET_INFO_BY_FD, &bpfInfo{FD: uint32(fd), InfoLen: uint32(unsafe.Sizeof(p)), Info: (*byte)(unsafe.Pointer(&p))})
	if err != nil {
		return BPFProg{}, err
	}
	return BPFProg{Type: p.Type, ID: p.ID, Tag: p.Tag, Maps: maps[:min(p.NMaps, mostMaps)]}, nil
}

// BPFMapType tells of what type (BPF_MAP_TYPE_*) the map of this number is. It
// needs CAP_SYS_ADMIN (Linux 4.13).
func BPFMapType(id uint32) (uint32, error) {
	fd, err := bpf(BPF_MAP_GET_FD_BY_ID, &bpfByID{ID: id})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var b [4]byte // the head of struct bpf_map_info
	_, err = bpf(BPF_OBJ_GET_INFO_BY_FD, &bpfInfo{FD: uint32(fd), InfoLen: uint32(len(b)), Info: &b[0]})
	return binary.NativeEndian.Uint32(b[:]), err
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
