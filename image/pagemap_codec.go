package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"glis.dev/glis/image/protowire"
)

// A pagemap of a large task has hundreds of thousands of entries, so they have
// a codec of their own. It agrees with that of the message PagemapEntry.

// Field numbers of PagemapEntry.
const (
	fieldVaddr       = 1 // required uint64
	fieldCompatPages = 2 // required uint32, the number of pages before criu 4.0
	fieldInParent    = 3 // optional bool, before there were flags
	fieldFlags       = 4 // optional uint32
	fieldPages       = 5 // optional uint64
)

var (
	errRequired = errors.New("pagemap_entry without vaddr or compat_nr_pages")
	errNumber   = errors.New("invalid field number")
)

// wireEntry is a PagemapEntry; bit 1<<n of has is set if field n is there.
type wireEntry struct {
	has         uint
	vaddr       uint64
	compatPages uint32
	inParent    bool
	flags       uint32
	pages       uint64
}

func (e *wireEntry) set(field protowire.Number, v uint64) {
	switch field {
	case fieldVaddr:
		e.vaddr = v
	case fieldCompatPages:
		e.compatPages = uint32(v)
	case fieldInParent:
		e.inParent = protowire.DecodeBool(v)
	case fieldFlags:
		e.flags = uint32(v)
	case fieldPages:
		e.pages = v
	}
	e.has |= 1 << field
}

func decodeEntry(b []byte) (wireEntry, error) {
	var e wireEntry
	for len(b) > 0 {
		field, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return e, protowire.ParseError(n)
		}
		if field > protowire.MaxValidNumber {
			return e, errNumber
		}
		b = b[n:]
		if typ == protowire.VarintType && field <= fieldPages {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return e, protowire.ParseError(n)
			}
			e.set(field, v)
			b = b[n:]
			continue
		}
		// A field of a newer criu.
		if n = protowire.ConsumeFieldValue(field, typ, b); n < 0 {
			return e, protowire.ParseError(n)
		}
		b = b[n:]
	}
	if e.has&(1<<fieldVaddr) == 0 || e.has&(1<<fieldCompatPages) == 0 {
		return e, errRequired
	}
	return e, nil
}

// decodeRange reads one entry. Like criu it takes the fields of older versions
// for what they mean today.
func decodeRange(b []byte) (Range, error) {
	e, err := decodeEntry(b)
	if err != nil {
		return Range{}, fmt.Errorf("pagemap entry: %w", err)
	}
	r := Range{Vaddr: e.vaddr, Pages: e.pages, Flags: e.flags}
	if e.has&(1<<fieldPages) == 0 {
		r.Pages = uint64(e.compatPages)
	}
	switch {
	case e.inParent:
		r.Flags |= PageParent
	case e.has&(1<<fieldFlags) == 0:
		r.Flags = PagePresent
	}
	return r, nil
}

// appendRange appends the entry of r, with its size in front, in the form that
// criu 4.2 writes. Of pages that are not in the pages file it has the older one,
// which criu takes as well: go-criu, whose reader of memory is that of
// checkpointctl, only knows the newer one and counts all of its pages when it
// looks for where one is in the file, so it would find other bytes, or none.
func appendRange(b []byte, r Range) []byte {
	start := len(b)
	older := r.Flags&PagePresent == 0 && r.Pages <= math.MaxUint32
	b = append(b, 0, 0, 0, 0)
	b = appendVarint(b, fieldVaddr, r.Vaddr)
	if older {
		b = appendVarint(b, fieldCompatPages, r.Pages)
	} else {
		b = appendVarint(b, fieldCompatPages, 0)
	}
	b = appendVarint(b, fieldFlags, uint64(r.Flags))
	if !older {
		b = appendVarint(b, fieldPages, r.Pages)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}
