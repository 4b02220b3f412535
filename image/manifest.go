package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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

	state *checking // what was seen of it, whoever has it open; see Check
}

// mostDeep is how many directories a name in the manifest leads through.
const mostDeep = 128

// appendManifest encodes the manifest.
func appendManifest(b []byte, files map[string]listed) []byte {
	b = manifest.header(b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		start := len(b)
		b = appendListed(append(b, 0, 0, 0, 0), files[name])
		binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	}
	return b
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
func parseManifest(b []byte) (map[string]listed, error) {
	const word = 4
	head := len(manifest.header(nil))
	if len(b) < head || !bytes.Equal(b[:head], manifest.header(nil)) {
		return nil, &Error{File: ManifestName, Err: ErrMagic}
	}
	files := make(map[string]listed, countEntries(b[head:]))
	for at := head; at < len(b); {
		rest := b[at:]
		if len(rest) < word || uint64(binary.LittleEndian.Uint32(rest)) > uint64(len(rest)-word) {
			return nil, &Error{File: ManifestName, Offset: int64(at), Err: errors.New("file is cut")}
		}
		n := int(binary.LittleEndian.Uint32(rest))
		f, err := parseListed(rest[word : word+n])
		if _, twice := files[f.name]; err == nil && twice {
			err = fmt.Errorf("%.80q is there twice", f.name)
		}
		if err != nil {
			return nil, &Error{File: ManifestName, Offset: int64(at), Err: err}
		}
		files[f.name] = f
		at += word + n
	}
	return files, followLinks(files)
}

// countEntries counts what may be entries, up to many.
func countEntries(b []byte) (n int) {
	for len(b) >= 4 && n < 1<<16 {
		size := uint64(binary.LittleEndian.Uint32(b))
		if size == 0 || size > uint64(len(b)-4) {
			return n
		}
		b = b[4+size:]
		n++
	}
	return n
}

func parseListed(b []byte) (f listed, err error) {
	err = eachWire(b, func(n protowire.Number, v uint64, field []byte) error {
		switch n {
		case entryName:
			f.name = string(field)
		case entryLink:
			f.link = string(field)
		case entrySize:
			if f.size = int64(v); f.size < 0 || f.size > 1<<62 {
				return fmt.Errorf("size of %d bytes", v)
			}
		case entrySums:
			if len(field)%4 != 0 {
				return fmt.Errorf("checksums of %d bytes", len(field))
			}
			for ; len(field) > 0; field = field[4:] {
				f.sums = append(f.sums, binary.LittleEndian.Uint32(field))
			}
		}
		return nil
	})
	if err == nil {
		err = checkListed(&f)
	}
	return f, err
}

func checkListed(f *listed) error {
	if n := strings.Count(f.name, "/") + 1; n > mostDeep {
		return fmt.Errorf("a name of %d parts", n)
	}
	for p := range strings.SplitSeq(f.name, "/") {
		if err := checkName(p); err != nil {
			return err
		}
	}
	if f.link != "" {
		if f.size != 0 || len(f.sums) > 0 || f.link == f.name {
			return fmt.Errorf("%.80q is a link and a file", f.name)
		}
		return nil
	}
	if want := chunksOf(f.size); int64(len(f.sums)) != want {
		return fmt.Errorf("%.80q: %d checksums for %d bytes, there must be %d", f.name, len(f.sums), f.size, want)
	}
	return nil
}

// followLinks gives links the size and sums of what they lead to.
func followLinks(files map[string]listed) error {
	for name, f := range files {
		if f.link == "" {
			continue
		}
		to, ok := files[f.link]
		if !ok || to.link != "" {
			return fileError(ManifestName, fmt.Errorf("%.80q leads to %.80q, which is no file in it", name, f.link))
		}
		f.size, f.sums = to.size, to.sums
		files[name] = f
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
