package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"glis.dev/glis/image/protowire"
)

// ManifestName is the file that has the checksums of all others. criu does not
// know it, and leaves it alone.
const ManifestName = "glis-manifest.img"

// manifest has no Go type for its entries: there may be very many. Their field 1
// is shown by crit, too.
var manifest = Own("glis-manifest", nil)

// Fields of an entry of the manifest.
const (
	entryName protowire.Number = 1 // string, "/" between the parts of a path
	entrySize protowire.Number = 2 // varint, bytes
	entrySums protowire.Number = 3 // bytes, a little-endian u32 for each chunk
	entryLink protowire.Number = 4 // string: it is this file under a second name
)

// listed is what the manifest says of one file.
type listed struct {
	name string
	size int64
	sums []uint32
	link string // size and sums are those of the file of this name
}

// listing is a listed as it is encoded, in the manifest's own bytes: there may be very
// many files, of which most are only looked for.
type listing struct {
	name, link []byte
	size       int64
	sums       []byte // four bytes each
}

// sum returns the checksum of chunk n.
func (f *listing) sum(n int) uint32 { return binary.LittleEndian.Uint32(f.sums[4*n:]) }

// listed returns a copy that needs the manifest no more.
func (f *listing) listed() listed {
	out := listed{name: string(f.name), size: f.size, link: string(f.link)}
	for n := range len(f.sums) / 4 {
		out.sums = append(out.sums, f.sum(n))
	}
	return out
}

// mostDeep is how many directories a name in the manifest leads through.
const mostDeep = 128

// manifestPiece is about how much of a manifest is written at a time.
const manifestPiece = 32 << 10

// writeManifest hands a manifest to write, in pieces; the ledger must be sorted.
func writeManifest(l *ledger, write func([]byte) error) error {
	b := manifest.header(nil)
	for i := range l.at {
		if b = append(b, l.raw(i)...); len(b) < manifestPiece {
			continue
		}
		if err := write(b); err != nil {
			return err
		}
		b = b[:0]
	}
	return write(b)
}

func appendListed(b []byte, f listed) []byte {
	b = protowire.AppendTag(b, entryName, protowire.BytesType)
	b = protowire.AppendString(b, f.name)
	if f.link != "" {
		b = protowire.AppendTag(b, entryLink, protowire.BytesType)
		return protowire.AppendString(b, f.link)
	}
	b = protowire.AppendTag(b, entrySize, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(f.size))
	b = protowire.AppendTag(b, entrySums, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(4*len(f.sums)))
	for _, s := range f.sums {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	return b
}

// parseManifest decodes and checks a manifest. What it returns can be relied
// on: each name leads to a place in the checkpoint, each file has a checksum
// for all of its chunks.
func parseManifest(b []byte) (*ledger, error) {
	head := len(manifest.header(nil))
	if len(b) < head || !bytes.Equal(b[:head], manifest.header(nil)) {
		return nil, &Error{File: ManifestName, Err: ErrMagic}
	}
	l, sorted, links := &ledger{b: b, at: make([]uint32, 0, len(b)/shortEntry)}, true, false
	for at := head; at < len(b); {
		rest := b[at:]
		if len(rest) < entryHead || uint64(binary.LittleEndian.Uint32(rest)) > uint64(len(rest)-entryHead) {
			return nil, &Error{File: ManifestName, Offset: int64(at), Err: errors.New("file is cut")}
		}
		n := entryHead + int(binary.LittleEndian.Uint32(rest))
		f, err := checkListing(rest[entryHead:n])
		if err != nil {
			return nil, &Error{File: ManifestName, Offset: int64(at), Err: err}
		}
		links = links || len(f.link) > 0
		l.at = append(l.at, uint32(at))
		if i := len(l.at) - 1; i > 0 {
			sorted = sorted && bytes.Compare(l.name(i-1), l.name(i)) < 0
		}
		at += n
	}
	if !sorted {
		l.order()
	}
	if i := l.twice(); i >= 0 {
		return nil, &Error{File: ManifestName, Offset: int64(l.at[i]), Err: fmt.Errorf("%.80q is there twice", l.name(i))}
	}
	if !links {
		return l, nil
	}
	return l, l.checkLinks()
}

// shortEntry is about how long the entry of a small file is, in bytes.
const shortEntry = 32

// checkListing checks one entry, without links.
func checkListing(b []byte) (listing, error) {
	f, err := parseListing(b)
	if err == nil && !bytes.Equal(nameIn(b), f.name) {
		err = fmt.Errorf("%.80q: its name is not what comes first", f.name)
	}
	return f, err
}

// nameIn returns the name in an entry that was checked: what comes first.
func nameIn(b []byte) []byte {
	n, typ, size := protowire.ConsumeTag(b)
	if size < 0 || n != entryName || typ != protowire.BytesType {
		return nil
	}
	name, _ := protowire.ConsumeBytes(b[size:])
	return name
}

func parseListing(b []byte) (f listing, err error) {
	err = eachWire(b, func(n protowire.Number, v uint64, field []byte) error {
		switch n {
		case entryName:
			f.name = field
		case entryLink:
			f.link = field
		case entrySize:
			if f.size = int64(v); f.size < 0 || f.size > 1<<62 {
				return fmt.Errorf("size of %d bytes", v)
			}
		case entrySums:
			if len(field)%4 != 0 {
				return fmt.Errorf("checksums of %d bytes", len(field))
			}
			f.sums = field
		}
		return nil
	})
	if err == nil {
		err = f.check()
	}
	return f, err
}

func (f *listing) check() error {
	if n := bytes.Count(f.name, []byte("/")) + 1; n > mostDeep {
		return fmt.Errorf("a name of %d parts", n)
	}
	for p := range bytes.SplitSeq(f.name, []byte("/")) {
		if err := checkName(p); err != nil {
			return err
		}
	}
	if len(f.link) > 0 {
		if f.size != 0 || len(f.sums) > 0 || bytes.Equal(f.link, f.name) {
			return fmt.Errorf("%.80q is a link and a file", f.name)
		}
		return nil
	}
	if want := chunksOf(f.size); int64(len(f.sums)/4) != want {
		return fmt.Errorf("%.80q: %d checksums for %d bytes, there must be %d", f.name, len(f.sums)/4, f.size, want)
	}
	return nil
}

// checkLinks makes sure that links lead to files.
func (l *ledger) checkLinks() error {
	for i := range l.at {
		f, _ := parseListing(l.raw(i)[entryHead:]) // it was checked
		if len(f.link) == 0 {
			continue
		}
		to, ok := l.find(string(f.link))
		if ok {
			target, _ := parseListing(l.raw(to)[entryHead:])
			ok = len(target.link) == 0
		}
		if !ok {
			return fileError(ManifestName, fmt.Errorf("%.80q leads to %.80q, which is no file in it", f.name, f.link))
		}
	}
	return nil
}

// eachWire calls f for every field of a message; v is that of a number, b that
// of bytes.
func eachWire(b []byte, f func(n protowire.Number, v uint64, b []byte) error) error {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		if size = protowire.ConsumeFieldValue(n, typ, b); size < 0 {
			return protowire.ParseError(size)
		}
		var v uint64
		var field []byte
		switch typ {
		case protowire.VarintType:
			v, _ = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			field, _ = protowire.ConsumeBytes(b)
		}
		if err := f(n, v, field); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}
