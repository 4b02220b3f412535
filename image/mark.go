package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/protowire"
)

// The mark is the last field of inventory.img: that there is a manifest, its
// size and checksum, and the checksum of all of inventory.img but itself, which
// is the last four bytes of the file. So the inventory vouches for itself and
// for the manifest, and that for all other files. criu skips a field that it
// does not know.
//
//	field 1500, bytes: { fixed64 size = 1; fixed32 manifest = 2; fixed32 inventory = 3; }
//
// A mark that was damaged so that it looks like none must not turn checks off:
// see readMark.
const markField protowire.Number = 1500

// mark is what the inventory says of the manifest.
type mark struct {
	size uint64
	sum  uint32
}

// markHead is what a mark begins with, and markSize how long it is.
var markHead = append(protowire.AppendTag(nil, markField, protowire.BytesType), markSize-3, 1<<3|byte(protowire.Fixed64Type))

const markSize = 22

// appendMark encodes a mark, without its last four bytes.
func appendMark(b []byte, m mark) []byte {
	b = append(b, markHead...)
	b = binary.LittleEndian.AppendUint64(b, m.size)
	b = protowire.AppendTag(b, 2, protowire.Fixed32Type)
	b = binary.LittleEndian.AppendUint32(b, m.sum)
	return protowire.AppendTag(b, 3, protowire.Fixed32Type)
}

// encodeInventory returns inventory.img with a mark.
func encodeInventory(e *inventory.InventoryEntry, m mark) ([]byte, error) {
	const head = 8
	b := binary.LittleEndian.AppendUint32(nil, Inventory.Magic)
	b, err := marshal.MarshalAppend(append(b, 0, 0, 0, 0), e)
	if err != nil {
		return nil, fileError(Inventory.FileName(), err)
	}
	b = appendMark(b, m)
	binary.LittleEndian.PutUint32(b[head/2:], uint32(len(b)+4-head))
	return binary.LittleEndian.AppendUint32(b, checksum(0, b)), nil
}

// mostInventory is how large an inventory is read; real ones have some hundred
// bytes.
const mostInventory = 1 << 20

// readMark reads the inventory and looks for a mark. Without one, and without
// anything that would be there if it had been damaged, the checkpoint is
// criu's, or of a Glis that made none: raw and the mark are nil then.
func readMark(s Store) (raw []byte, m *mark, err error) {
	name := Inventory.FileName()
	raw, err = readWhole(s, name, mostInventory)
	if errors.Is(err, fs.ErrNotExist) && manifestThere(s) {
		return nil, nil, fileError(name, errors.New("it is missing, so this is no whole checkpoint: the dump did not end, or a file was lost; dump again, or take a whole copy"))
	}
	if err != nil {
		return nil, nil, err
	}
	if len(raw) > markSize && checksum(0, raw[:len(raw)-4]) == binary.LittleEndian.Uint32(raw[len(raw)-4:]) {
		if tail := raw[len(raw)-markSize:]; bytes.HasPrefix(tail, markHead) {
			tail = tail[len(markHead):]
			return raw, &mark{binary.LittleEndian.Uint64(tail), binary.LittleEndian.Uint32(tail[9:])}, nil
		}
	}
	if manifestThere(s) || marked(raw) {
		return nil, nil, &Error{File: name, Offset: 0, Err: fmt.Errorf("its checksum is wrong: %w", ErrChecksum)}
	}
	return nil, nil, nil
}

// marked tells whether an inventory whose checksum is wrong has had one: it
// has a field that criu's can't have, or ends like one with a mark.
func marked(raw []byte) bool {
	const head, criuMost = 8, 200 // far above criu's numbers, far below what one bit makes of 1500
	if len(raw) < head+markSize {
		return false
	}
	if bytes.HasPrefix(raw[len(raw)-markSize:], markHead) {
		return true
	}
	foreign := false
	_ = eachWire(raw[head:], func(n protowire.Number, _ uint64, _ []byte) error { // what can't be parsed is refused later
		foreign = foreign || n > criuMost
		return nil
	})
	return foreign
}

func manifestThere(s Store) bool {
	f, err := s.Open(ManifestName)
	if err == nil {
		_ = f.Close() // only looked at
	}
	return !errors.Is(err, fs.ErrNotExist)
}

// readWhole reads a file of at most limit bytes.
func readWhole(s Store, name string, limit int64) ([]byte, error) {
	f, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	if f.Size() > limit {
		return nil, fileError(name, fmt.Errorf("%w: %d bytes, at most %d are read", ErrTooLarge, f.Size(), limit))
	}
	b := make([]byte, f.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, &Error{File: name, Offset: int64(n), Err: err}
	}
	return b, nil
}

// mostManifest is how large a manifest is read: enough for some TiB of pages.
const mostManifest = 64 << 20

// readManifest reads the manifest that a mark vouches for.
func readManifest(s Store, m *mark) (*ledger, error) {
	b, err := readWhole(s, ManifestName, mostManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fileError(ManifestName, errors.New("it is missing: without it nothing can be checked; take another copy of the checkpoint"))
	}
	if err != nil {
		return nil, err
	}
	if uint64(len(b)) != m.size {
		return nil, &Error{File: ManifestName, Offset: int64(min(uint64(len(b)), m.size)), Err: fmt.Errorf("%d bytes instead of %d: %w", len(b), m.size, ErrChecksum)}
	}
	if sum := checksum(0, b); sum != m.sum {
		return nil, &Error{File: ManifestName, Offset: 0, Err: fmt.Errorf("checksum is %08x instead of %08x: %w", sum, m.sum, ErrChecksum)}
	}
	return parseManifest(b)
}
