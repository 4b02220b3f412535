package kmem

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"glis.dev/glis/internal/bpf"
)

// maxOffset is more than where anything is that is asked for.
const maxOffset = 64 << 10

// find finds members of structures, and values of enumerations. One that begins with a question mark may be
// missing.
func find(x *bpf.Types, names []string) (map[string]Field, error) {
	names = append(slices.Clone(names), besideInet6(names)...)
	wanted := map[string][]string{} // members by structure
	maybe := map[string]bool{}
	var types []bpf.Name
	for _, n := range names {
		n, ok := strings.CutPrefix(n, "?")
		if may, again := maybe[n]; again { // what one user needs must be there
			maybe[n] = may && ok
			continue
		}
		of, member, _ := strings.Cut(n, ".")
		maybe[n] = ok
		if wanted[of] == nil {
			types = append(types, bpf.Name{Kind: bpf.KindStruct, Or: bpf.KindEnum, Name: of})
		}
		wanted[of] = append(wanted[of], member)
	}
	found, err := x.Find(types...)
	if err != nil {
		return nil, err
	}
	out := map[string]Field{}
	for i, t := range types {
		optional := func(name string) bool { return maybe[name] }
		ok := found[i].ID != 0
		if !ok && (maybe[t.Name] || allOptional(t.Name, wanted[t.Name], optional)) {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("the kernel has no struct %s", t.Name)
		}
		if err := findIn(x, &found[i], t.Name, wanted[t.Name], optional, out); err != nil {
			return nil, err
		}
	}
	placeInet6(out)
	return out, nil
}

const (
	inet6       = ".inet6" // the part of a socket that is about IPv6
	inet6Size   = "ipv6_pinfo"
	inet6Offset = "proto.ipv6_pinfo_offset"
)

// besideInet6 is what has to be known of parts that are about IPv6 to find them.
func besideInet6(names []string) (more []string) {
	for _, n := range names {
		if of, ok := strings.CutSuffix(strings.TrimPrefix(n, "?"), inet6); ok {
			more = append(more, "?"+of, "?"+inet6Size, "?"+inet6Offset)
		}
	}
	return more
}

// placeInet6 corrects where these parts are: before Linux 6.6 not at their member, but at the
// end of all, also if the structure is padded.
func placeInet6(found map[string]Field) {
	if _, ok := found[inet6Offset]; ok {
		return
	}
	for n := range found {
		if of, ok := strings.CutSuffix(n, inet6); ok {
			found[n] = Field{At: found[of].At - found[inet6Size].At}
		}
	}
}

// allOptional tells whether each member that is asked for of a structure may be missing.
func allOptional(of string, members []string, optional func(string) bool) bool {
	return !slices.ContainsFunc(members, func(m string) bool { return m == "" || !optional(of+"."+m) })
}

func findIn(x *bpf.Types, t *bpf.Type, of string, members []string, optional func(string) bool, out map[string]Field) error {
	if t.Kind == bpf.KindEnum {
		return valuesOf(x, t, of, members, optional, out)
	}
	fields, err := x.Fields(t, members...)
	if err != nil {
		return err
	}
	for i, f := range fields {
		if members[i] == "" {
			out[of] = Field{At: int(t.Size)}
			continue
		}
		if f.Offset < 0 && optional(of+"."+members[i]) {
			continue
		}
		if f.Offset < 0 || f.Offset > maxOffset {
			return fmt.Errorf("the kernel's struct %s has no %s", of, members[i])
		}
		out[of+"."+members[i]] = Field{At: f.Offset, Bit: f.Bit, Bits: f.Bits}
	}
	return nil
}

// valuesOf finds what names of an enumeration stand for.
func valuesOf(x *bpf.Types, t *bpf.Type, of string, members []string, optional func(string) bool, out map[string]Field) error {
	for _, m := range members {
		v, ok := x.Value(t, m)
		if !ok && !optional(of+"."+m) {
			return fmt.Errorf("the kernel's enum %s has no %s", of, m)
		}
		if ok {
			out[of+"."+m] = Field{At: int(v)}
		}
	}
	return nil
}

// Has tells whether the kernel has a member or structure that may be missing.
func (r *Reader) Has(name string) bool {
	_, ok := r.layout[name]
	return ok
}

// Off returns where a member is in its structure, or the size of a structure.
// It must have been named to Open.
func (r *Reader) Off(name string) Addr { return Addr(r.layout[name].At) }

// Field returns where a member is, also one of some bits only.
func (r *Reader) Field(name string) Field { return r.layout[name] }

// Struct is a structure that was read.
type Struct struct {
	At    Addr
	Bytes []byte
	r     *Reader
}

// Struct reads a whole structure.
func (r *Reader) Struct(name string, at Addr) (*Struct, error) {
	s := &Struct{At: at, Bytes: make([]byte, r.Off(name)), r: r}
	return s, r.ReadAt(s.Bytes, at)
}

// StructIn is a structure that was read otherwise.
func (r *Reader) StructIn(b []byte) *Struct { return &Struct{Bytes: b, r: r} }

// In is another structure that this one begins with, or has at a member.
func (s *Struct) In(member string) *Struct {
	at := s.r.layout[member].At
	return &Struct{At: s.At + Addr(at), Bytes: s.Bytes[min(at, len(s.Bytes)):], r: s.r}
}

// number is size bytes of a member, 0 if the structure ends before.
func (s *Struct) number(name string, size int) uint64 {
	at := s.r.layout[name].At
	var b [8]byte
	if at+size <= len(s.Bytes) {
		copy(b[:], s.Bytes[at:at+size])
	}
	return binary.LittleEndian.Uint64(b[:])
}

// U8, U16, U32 and Pointer read members of these sizes.
func (s *Struct) U8(name string) uint8     { return uint8(s.number(name, 1)) }
func (s *Struct) U16(name string) uint16   { return uint16(s.number(name, 2)) }
func (s *Struct) U32(name string) uint32   { return uint32(s.number(name, 4)) }
func (s *Struct) Pointer(name string) Addr { return Addr(s.number(name, 8)) }

// Raw returns n bytes of a member.
func (s *Struct) Raw(name string, n int) []byte {
	b := make([]byte, n)
	if at := s.r.layout[name].At; at < len(s.Bytes) {
		copy(b, s.Bytes[at:])
	}
	return b
}

// Bits reads a bit field, or a byte that has become one of its own.
func (s *Struct) Bits(name string) uint32 {
	f := s.r.layout[name]
	if f.Bits == 0 {
		return uint32(s.U8(name))
	}
	return uint32(s.number(name, 4)) >> f.Bit & (1<<f.Bits - 1)
}
