package proc

import (
	"bytes"
	"encoding/binary"
	"sync"
)

// Packer puts mappings down in a tenth of the memory: there may be thousands of
// processes, of which a few are looked at at a time. The zero value is ready. Several
// goroutines may use it.
type Packer struct {
	mu    sync.Mutex
	known map[string]uint64
	names []string
}

// Packed is mappings that were put down, for the same Packer.
type Packed []byte

// Bits of what a packed mapping is like.
const (
	packedShared = 1 << iota
	packedDeleted
	packedProt // and the bits above
)

// Pack puts mappings down, which must be ascending. Not ok if one has more to it than
// is usual.
func (p *Packer) Pack(vmas []VMA) (_ Packed, ok bool) {
	b := make([]byte, 0, 24*len(vmas)+8)
	at := uint64(0)
	for i := range vmas {
		v := &vmas[i]
		if v.Unknown != nil || v.Prot < 0 {
			return nil, false
		}
		how := uint64(v.Prot) * packedProt
		if v.Shared {
			how |= packedShared
		}
		if v.Deleted {
			how |= packedDeleted
		}
		for _, n := range [...]uint64{
			v.Start - at, v.End - v.Start, how, v.Offset, uint64(v.DevMajor), uint64(v.DevMinor), v.Inode, p.number(v.Name), uint64(v.Flags), uint64(v.Pkey),
		} {
			b = binary.AppendUvarint(b, n)
		}
		at = v.End
	}
	return bytes.Clone(b), true
}

func (p *Packer) number(name string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.known[name]
	if !ok {
		if p.known == nil {
			p.known = map[string]uint64{}
		}
		n = uint64(len(p.names))
		p.known[name], p.names = n, append(p.names, name)
	}
	return n
}

// Unpack returns what was put down.
func (p *Packer) Unpack(packed Packed) []VMA {
	p.mu.Lock()
	names := p.names
	p.mu.Unlock()
	var out []VMA
	at, b := uint64(0), packed
	next := func() uint64 {
		n, size := binary.Uvarint(b)
		b = b[size:]
		return n
	}
	for len(b) > 0 {
		v := VMA{Start: at + next()}
		v.End = v.Start + next()
		how := next()
		v.Prot, v.Shared, v.Deleted = int(how/packedProt), how&packedShared != 0, how&packedDeleted != 0
		v.Offset, v.DevMajor, v.DevMinor, v.Inode = next(), uint32(next()), uint32(next()), next()
		v.Name, v.Flags, v.Pkey = names[next()], VmFlags(next()), uint32(next())
		out, at = append(out, v), v.End
	}
	return out
}
