package image

import (
	"bytes"
	"fmt"
	"testing"

	"glis.dev/glis/image/proto"
)

// FuzzReader reads a file of any row; what can be read can be written, and is
// then read as the same.
func FuzzReader(f *testing.F) {
	for i, r := range Table() {
		if r.Raw() {
			continue
		}
		s, ids := memory{}, []uint32{7}[:r.idCount()]
		writeEntries(f, s, r, samples(r), ids...)
		f.Add(byte(i), s[r.FileName(ids...)].b)
	}
	f.Fuzz(func(t *testing.T, row byte, b []byte) {
		table := Table()
		r := table[int(row)%len(table)]
		if r.Raw() {
			return
		}
		all, err := readFrom(&memFile{b}, r)
		whole, err2 := readFrom(&bytesFile{b: b}, r) // is read in another way
		if fmt.Sprint(err) != fmt.Sprint(err2) || len(whole) != len(all) {
			t.Fatalf("%d entries, %v; of a file that was read as a whole %d, %v", len(all), err, len(whole), err2)
		}
		for i := range all {
			if !sameWire(t, whole[i].m, all[i].m) || !bytes.Equal(whole[i].payload, all[i].payload) {
				t.Fatalf("%v; of a file that was read as a whole %v", all[i], whole[i])
			}
		}
		if err != nil {
			return
		}
		s := memory{}
		w, err := create(s, r, "y")
		check(t, err)
		for _, e := range all {
			check(t, w.PutPayload(e.m, e.payload))
		}
		check(t, w.Close())
		rd, err := open(s, r, "y")
		check(t, err)
		again, err := readEntries(rd)
		check(t, err)
		if len(again) != len(all) {
			t.Fatalf("%d entries, were %d", len(again), len(all))
		}
		for i := range all {
			if !sameWire(t, again[i].m, all[i].m) || !bytes.Equal(again[i].payload, all[i].payload) {
				t.Fatalf("%v, was %v", again[i], all[i])
			}
		}
	})
}

// readFrom reads all of a file.
func readFrom(f ReadFile, r *Row) ([]entry, error) {
	rd := newReader(f, r, "x")
	if err := rd.header(); err != nil {
		return nil, err
	}
	return readEntries(rd)
}

// sameWire compares encodings: a NaN is not equal to itself.
func sameWire(t *testing.T, a, b proto.Message) bool {
	x, err := marshal.Marshal(a)
	check(t, err)
	y, err := marshal.Marshal(b)
	check(t, err)
	return bytes.Equal(x, y)
}

// FuzzPagemap opens and resolves a pagemap; what comes out is in order and
// within the pages file. As an entry, what it reads is compared.
func FuzzPagemap(f *testing.F) {
	s := memory{}
	writePagemap(f, s, 'a', Range{Vaddr: page(1), Pages: 2, Flags: PagePresent}, Range{Vaddr: page(5), Pages: 1, Flags: PagePresent | PageLazy})
	f.Add(s["pagemap-1.img"].b, uint16(3))
	f.Add([]byte{8, 128, 32, 16, 0, 32, 4, 40, 2}, uint16(0))
	f.Add([]byte{8, 1, 16, 0, 24, 2, 250, 127, 2, 1, 2}, uint16(0))
	f.Add([]byte{10, 1, 0, 8, 1, 16, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, pages uint16) {
		checkEntry(t, b)
		s := memory{"pagemap-1.img": &memFile{b}}
		size := int64(pages%16) * PageSize
		for id := range uint32(8) {
			s[Pages.FileName(id)] = &memFile{make([]byte, size)}
		}
		p, err := OpenPagemap(s, Pagemap, 1)
		if err != nil {
			return
		}
		var end uint64
		for _, r := range p.Ranges {
			if r.Vaddr < end || r.Pages == 0 || r.Vaddr%PageSize != 0 || r.End() > userSpace {
				t.Fatalf("%+v after %#x", r, end)
			}
			end = r.End()
		}
		r, err := p.Resolve()
		if err != nil {
			return
		}
		for _, piece := range r.Pieces {
			if piece.Source != nil && piece.Offset+int64(piece.Pages*PageSize) > size || piece.Source == nil && !piece.Lazy {
				t.Fatalf("%+v with %d bytes of pages", piece, size)
			}
		}
	})
}
