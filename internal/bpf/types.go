// Package bpf is what programs for the kernel's BPF iterators are put together
// with: the kernel's type information, and instructions.
package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// File is where the kernel has its type information (CONFIG_DEBUG_INFO_BTF).
const File = "/sys/kernel/btf/vmlinux"

// ErrBTF says that type information was not understood.
var ErrBTF = errors.New("the kernel's type information (BTF) makes no sense")

// Kinds of types, see include/uapi/linux/btf.h.
const (
	KindInt       = 1
	KindPointer   = 2
	KindArray     = 3
	KindStruct    = 4
	KindUnion     = 5
	KindEnum      = 6
	KindTypedef   = 8
	KindFunc      = 12
	KindFuncProto = 13
	KindVar       = 14
	KindDataSec   = 15
	KindDeclTag   = 17
	KindEnum64    = 19
	kindLast      = KindEnum64

	kindForward  = 7
	kindVolatile = 9
	kindConst    = 10
	kindRestrict = 11
	kindFloat    = 16
	kindTypeTag  = 18
)

// Types is the little that is asked of the kernel's type information. It is not
// for use by several goroutines at once.
type Types struct {
	types, names []byte
	mapped       []byte
	marks        []int // where every 64th type begins, as far as they were walked: see walk
}

// Off has Glis go without the kernel's memory, as on a kernel that doesn't show
// it, if it is set in the environment: for tests.
const Off = "GLIS_NO_BPF"

// Shown returns why Glis is to go without the kernel's memory, if it is (see Off).
func Shown() error {
	if os.Getenv(Off) != "" {
		return fmt.Errorf("%s: %w (%s is set)", File, os.ErrNotExist, Off)
	}
	return nil
}

// Kernel opens the types of the running kernel: some 5 MB, which are mapped
// since Linux 6.16 and read before.
func Kernel() (*Types, error) {
	if err := Shown(); err != nil {
		return nil, err
	}
	f, err := os.Open(File)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	b, err := mapped(f)
	if err == nil {
		x, err := Parse(b)
		if err != nil {
			return nil, errors.Join(err, unix.Munmap(b))
		}
		x.mapped = b
		return x, nil
	}
	if b, err = fd.ReadFile(File); err != nil {
		return nil, err
	}
	return Parse(b)
}

func mapped(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
}

// Close gives the memory back. Neither x nor its types may be used any more.
func (x *Types) Close() error {
	if x.mapped == nil {
		return nil
	}
	b := x.mapped
	*x = Types{}
	return unix.Munmap(b)
}

// Parse finds the sections of a BTF file. Errors are ErrBTF.
func Parse(b []byte) (*Types, error) {
	const header = 24
	le := binary.NativeEndian
	if len(b) < header || le.Uint16(b) != 0xeb9f {
		return nil, fmt.Errorf("%w: no header", ErrBTF)
	}
	section := func(at int) ([]byte, error) {
		from := uint64(le.Uint32(b[4:])) + uint64(le.Uint32(b[at:]))
		to := from + uint64(le.Uint32(b[at+4:]))
		if to > uint64(len(b)) {
			return nil, fmt.Errorf("%w: it is cut", ErrBTF)
		}
		return b[from:to], nil
	}
	types, err := section(8)
	if err != nil {
		return nil, err
	}
	names, err := section(16)
	return &Types{types: types, names: names}, err
}

// Type is one type.
type Type struct {
	ID   uint32
	Kind uint8
	Size uint32 // bytes, of structs and unions
	name uint32
	rest []byte // members and the like
}

// Each calls fn with every type until it returns false; the type is only valid
// during the call, a copy of it for good. Errors are ErrBTF.
func (x *Types) Each(fn func(*Type) bool) error {
	return x.walk(0, wish{kinds: ^uint32(0)}, fn)
}

// Named tells whether a type has this name.
func (x *Types) Named(t *Type, name string) bool { return x.named(t.name, name) }

func (x *Types) named(at uint32, name string) bool {
	end := uint64(at) + uint64(len(name))
	return end < uint64(len(x.names)) && string(x.names[at:end]) == name && x.names[end] == 0
}

// Member returns the offset in bytes of a struct's member; -1 if it has none of
// that name. It does not look into members without a name.
func (x *Types) Member(t *Type, name string) int {
	off := -1
	x.members(t, func(at, _ uint32, f Field) {
		if off < 0 && x.named(at, name) {
			off = f.Offset
		}
	})
	return off
}

// Value returns what a name of an enumeration stands for.
func (x *Types) Value(t *Type, name string) (value int32, ok bool) {
	le := binary.NativeEndian
	if t.Kind != KindEnum {
		return 0, false
	}
	for m := t.rest; len(m) >= 8; m = m[8:] {
		if x.named(le.Uint32(m), name) {
			return int32(le.Uint32(m[4:])), true
		}
	}
	return 0, false
}

// members calls fn with each member's name, type, and place.
func (x *Types) members(t *Type, fn func(name, id uint32, f Field)) {
	if t.Kind != KindStruct && t.Kind != KindUnion {
		return
	}
	le := binary.NativeEndian
	for m := t.rest; len(m) >= 12; m = m[12:] {
		at := le.Uint32(m[8:])
		fn(le.Uint32(m), le.Uint32(m[4:]), Field{Offset: int(at&0xffffff) / 8, Bit: int(at % 8), Bits: int(at >> 24)})
	}
}

// Field is where a member is.
type Field struct {
	Offset int    // bytes; -1 if there is none
	Union  uint32 // size in bytes of the anonymous union that it is in, 0 if in none
	Bit    int    // of a bit field: its first bit, counted from Offset
	Bits   int    // of a bit field: how many; 0 if it is none
}

// deepest is how far members without a name are followed into one another.
const deepest = 4

// Fields finds the members of names in a struct, and in the anonymous structs
// and unions within it. Errors are ErrBTF.
func (x *Types) Fields(t *Type, names ...string) ([]Field, error) {
	g := gatherer{types: x, names: names, out: make([]Field, len(names)), next: map[uint32]int{}}
	for i := range g.out {
		g.out[i].Offset = -1
	}
	g.gather(t, 0)
	for range deepest {
		level := g.next
		g.next = map[uint32]int{}
		for _, id := range slices.Sorted(maps.Keys(level)) { // of two members with one name the first
			inner, err := x.byID(id)
			if err != nil {
				return nil, err
			}
			g.gather(&inner, level[id])
		}
	}
	return g.out, nil
}

// gatherer looks for members level by level.
type gatherer struct {
	types *Types
	names []string
	out   []Field
	next  map[uint32]int // types of anonymous members, and where they are
}

// gather looks at a struct that is at base, or an anonymous member.
func (g *gatherer) gather(t *Type, base int) {
	var union uint32
	if t.Kind == KindUnion {
		union = t.Size
	}
	g.types.members(t, func(name, id uint32, f Field) {
		f.Offset, f.Union = f.Offset+base, union
		if g.types.named(name, "") {
			g.next[id] = f.Offset
			return
		}
		for i, n := range g.names {
			if g.out[i].Offset < 0 && g.types.named(name, n) {
				g.out[i] = f
			}
		}
	})
}
