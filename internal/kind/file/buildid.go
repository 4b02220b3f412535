package file

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
)

// buildID notes the GNU build-id of an executable or of a mapped ELF file, so
// that a restore can tell another build of it from the same one.
func (k *Regular) buildID(f *scan.File, e *regfile.RegFileEntry) error {
	if f.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	addr, mapped := mapAddress(f.Path())
	if !mapped && f.Path() != "exe" {
		return nil
	}
	id, err := k.askBuildID(f, addr, mapped)
	if err != nil {
		return fmt.Errorf("%v: read its build-id: %w", f, err)
	}
	e.BuildId = packBuildID(id)
	return nil
}

// mapAddress returns where the mapping behind "map_files/START-END" starts.
func mapAddress(path string) (uint64, bool) {
	rest, ok := strings.CutPrefix(path, "map_files/")
	start, _, ok2 := strings.Cut(rest, "-")
	addr, err := strconv.ParseUint(start, 16, 64)
	return addr, ok && ok2 && err == nil
}

func (k *Regular) askBuildID(f *scan.File, addr uint64, mapped bool) ([]byte, error) {
	if mapped && !k.noQuery {
		id, err := k.queryBuildID(f.Task, addr)
		if !errors.Is(err, unix.ENOTTY) {
			return id, err
		}
		k.noQuery = true
	}
	n, err := f.Task.Dir.Open(f.Path(), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	d := fd.New(n)
	id, err := elfBuildID(preader{d})
	return id, errors.Join(err, d.Close())
}

// queryBuildID lets the kernel look.
func (k *Regular) queryBuildID(t *scan.Task, addr uint64) ([]byte, error) {
	if k.mapsOf != t {
		n, err := t.Dir.Open("maps", unix.O_RDONLY)
		if err != nil {
			return nil, err
		}
		if k.maps != nil {
			k.maps.Close()
		}
		k.maps, k.mapsOf = os.NewFile(uintptr(n), "maps"), t
	}
	return linux.ProcmapBuildID(int(k.maps.Fd()), addr)
}

// preader reads from a descriptor without moving its position.
type preader struct{ d *fd.FD }

// ReadAt implements io.ReaderAt.
func (p preader) ReadAt(b []byte, off int64) (int, error) {
	n, err := unix.Pread(p.d.Int(), b, off)
	if err != nil {
		return 0, err
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// packBuildID is a build-id as images have it: its bytes in words of the
// machine's order, the last one filled up with zeros.
func packBuildID(id []byte) []uint32 {
	var out []uint32
	for len(id) > 0 {
		var w [4]byte
		id = id[copy(w[:], id):]
		out = append(out, binary.LittleEndian.Uint32(w[:]))
	}
	return out
}

// Bounds on what is read of an ELF file. Real ones are far below: a dozen
// program headers, notes of some 100 bytes.
const (
	maxPhdrs   = 256
	maxNotes   = 64 << 10
	maxBuildID = 512 // CRIU's
	noteGNU    = 3   // NT_GNU_BUILD_ID
)

// elfBuildID returns the GNU build-id of an ELF file, or nil if it has none or
// is no such file. Only errors of reading are errors.
func elfBuildID(r io.ReaderAt) ([]byte, error) {
	head, err := readUpTo(r, 0, 64)
	if err != nil || len(head) < 52 || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return nil, err
	}
	h := elfHeader{order: binary.LittleEndian, wide: head[elf.EI_CLASS] == byte(elf.ELFCLASS64)}
	if head[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
		h.order = binary.BigEndian
	}
	off, size, count := h.programHeaders(head)
	if size < h.phdrSize() || size > 256 || count > maxPhdrs || off > 1<<40 {
		return nil, nil
	}
	table, err := readUpTo(r, int64(off), size*count)
	for err == nil && len(table) >= size {
		if off, n, ok := h.note(table); ok {
			id, err := noteBuildID(r, h.order, off, n)
			if id != nil || err != nil {
				return id, err
			}
		}
		table = table[size:]
	}
	return nil, err
}

// readUpTo reads n bytes, or what there is of them.
func readUpTo(r io.ReaderAt, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:got], err
}

// elfHeader knows the layout of one class of ELF files.
type elfHeader struct {
	order binary.ByteOrder
	wide  bool // 64 bits
}

func (h elfHeader) phdrSize() int {
	if h.wide {
		return 56
	}
	return 32
}

// programHeaders returns where their table is, in bytes, and how many it has.
func (h elfHeader) programHeaders(head []byte) (off uint64, size, count int) {
	if !h.wide {
		return uint64(h.order.Uint32(head[28:])), int(h.order.Uint16(head[42:])), int(h.order.Uint16(head[44:]))
	}
	if len(head) < 64 {
		return 0, 0, 0
	}
	return h.order.Uint64(head[32:]), int(h.order.Uint16(head[54:])), int(h.order.Uint16(head[56:]))
}

// note returns the place of the notes that a program header is about.
func (h elfHeader) note(ph []byte) (off, size uint64, ok bool) {
	if elf.ProgType(h.order.Uint32(ph)) != elf.PT_NOTE {
		return 0, 0, false
	}
	if h.wide {
		off, size = h.order.Uint64(ph[8:]), h.order.Uint64(ph[32:])
	} else {
		off, size = uint64(h.order.Uint32(ph[4:])), uint64(h.order.Uint32(ph[16:]))
	}
	return off, min(size, maxNotes), off < 1<<62
}

// noteBuildID looks for the build-id among notes: a header of three words, a
// name and a description, each padded to words.
func noteBuildID(r io.ReaderAt, order binary.ByteOrder, off, size uint64) ([]byte, error) {
	b, err := readUpTo(r, int64(off), int(size))
	for err == nil && len(b) >= 12 {
		name, desc, typ := uint64(order.Uint32(b)), uint64(order.Uint32(b[4:])), order.Uint32(b[8:])
		b = b[12:]
		nameEnd := (name + 3) &^ 3
		end := nameEnd + (desc+3)&^3
		if uint64(len(b)) < nameEnd+desc {
			return nil, nil
		}
		if typ == noteGNU && name == 4 && string(b[:4]) == "GNU\x00" && desc > 0 && desc <= maxBuildID {
			return bytes.Clone(b[nameEnd : nameEnd+desc]), nil
		}
		b = b[min(end, uint64(len(b))):]
	}
	return nil, err
}
