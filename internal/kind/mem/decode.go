package mem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/image/protowire"
	"glis.dev/glis/internal/plan"
)

// Tasks have tens of thousands of mappings, so these have a decoder of their
// own. It agrees with that of the message VmaEntry.

// Field numbers of VmaEntry.
const (
	vmaStart   protowire.Number = 1
	vmaEnd     protowire.Number = 2
	vmaPgoff   protowire.Number = 3
	vmaShmid   protowire.Number = 4
	vmaProt    protowire.Number = 5
	vmaFlags   protowire.Number = 6
	vmaStatus  protowire.Number = 7
	vmaFD      protowire.Number = 8
	vmaMadv    protowire.Number = 9
	vmaFdflags protowire.Number = 10

	vmaRequired = 1<<(vmaFD+1) - 2 // bit n is field n
)

// mmVmas is the number of the field of MmEntry that holds the mappings.
const mmVmas protowire.Number = 14

// rawEntry reads the one entry of mm-PID.img.
func rawEntry(store image.Store, pid uint32) ([]byte, error) {
	rd, err := image.Open(store, image.MM, pid)
	if err != nil {
		return nil, err
	}
	defer rd.Close() //nolint:errcheck // only read from
	name, off, size := rd.Name(), rd.Offset(), rd.File().Size()
	var head [4]byte
	if _, err := rd.File().ReadAt(head[:], off); err != nil {
		return nil, &image.Error{File: name, Offset: off, Err: fmt.Errorf("there is no entry: %w", io.ErrUnexpectedEOF)}
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	switch left := size - off - int64(len(head)); {
	case n > image.MaxEntry:
		return nil, &image.Error{File: name, Offset: off, Err: fmt.Errorf("%w: %d bytes", image.ErrTooLarge, n)}
	case n > left:
		return nil, &image.Error{File: name, Offset: off, Err: fmt.Errorf("file is cut: entry of %d bytes, %d are left: %w", n, left, io.ErrUnexpectedEOF)}
	case n < left:
		return nil, &image.Error{File: name, Offset: off, Err: fmt.Errorf("%d bytes behind the entry, there must be exactly one", left-n)}
	}
	raw, err := rd.Range(off+int64(len(head)), int(n))
	if err != nil {
		return nil, &image.Error{File: name, Offset: off, Err: err}
	}
	return raw, nil
}

// splitEntry decodes an MmEntry, but for its mappings, which it counts: a list of
// them would take as much memory as they.
func splitEntry(raw []byte) (e *mm.MmEntry, vmas int, err error) {
	var rest []byte
	err = eachPart(raw, func(field, vma []byte) error {
		if vma != nil {
			vmas++
		} else {
			rest = append(rest, field...)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	e = &mm.MmEntry{}
	return e, vmas, proto.Unmarshal(rest, e)
}

// eachPart calls f with each field of an MmEntry, and with the VmaEntry in it if it is
// a mapping.
func eachPart(raw []byte, f func(field, vma []byte) error) error {
	for len(raw) > 0 {
		n, typ, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return protowire.ParseError(size)
		}
		value := protowire.ConsumeFieldValue(n, typ, raw[size:])
		if value < 0 {
			return protowire.ParseError(value)
		}
		var vma []byte
		if n == mmVmas && typ == protowire.BytesType {
			vma, _ = protowire.ConsumeBytes(raw[size:])
		}
		if err := f(raw[:size+value], vma); err != nil {
			return err
		}
		raw = raw[size+value:]
	}
	return nil
}

var errVMA = errors.New("vma_entry without one of its required fields")

// decodeArea decodes a VmaEntry, unchecked but for what would not fit.
func decodeArea(b []byte) (area, error) {
	var a area
	has := uint64(0)
	err := eachField(b, func(n protowire.Number, v uint64, b []byte) error {
		if n > vmaFdflags {
			a.setExtra(n, v, b)
			return nil
		}
		if b != nil {
			return nil // not a number: not the field that we know
		}
		has |= 1 << n
		return a.setField(n, v)
	})
	switch {
	case err != nil:
		return a, err
	case has&vmaRequired != vmaRequired:
		return a, errVMA
	case has&(1<<vmaFdflags) == 0 && (a.is(statusFileShared) && a.prot&unix.PROT_WRITE != 0 || a.is(statusSysVIPC)):
		a.access = unix.O_RDWR // written by a criu that did not say
	}
	return a, nil
}

func (a *area) setField(n protowire.Number, v uint64) error {
	switch n {
	case vmaStart:
		a.Start = v
	case vmaEnd:
		a.End = v
	case vmaPgoff:
		a.offset = v
	case vmaShmid:
		if a.file = plan.ID(v); v > 1<<32-1 {
			return fmt.Errorf("file %#x", v)
		}
	case vmaProt:
		a.prot = uint32(v)
	case vmaFlags:
		a.flags = uint32(v)
	case vmaStatus:
		a.status = uint32(v)
	case vmaMadv:
		a.madvise = v
	case vmaFdflags:
		a.access = uint32(v)
	}
	return nil
}

// setExtra takes over fields that criu does not know.
func (a *area) setExtra(n protowire.Number, v uint64, b []byte) {
	switch n {
	case vmaExtra:
		a.extra = v
	case vmaName:
		a.name = string(b)
	}
}

// eachField calls f for every field that is a varint or bytes; v or b is its
// value.
func eachField(raw []byte, f func(n protowire.Number, v uint64, b []byte) error) error {
	for len(raw) > 0 {
		n, typ, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return protowire.ParseError(size)
		}
		raw = raw[size:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(raw)
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(raw)
		default:
			size = protowire.ConsumeFieldValue(n, typ, raw)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		raw = raw[size:]
		if typ != protowire.VarintType && typ != protowire.BytesType {
			continue
		}
		if err := f(n, v, b); err != nil {
			return err
		}
	}
	return nil
}
