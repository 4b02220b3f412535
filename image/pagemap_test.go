package image

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"

	"glis.dev/glis/image/criu/pagemap"
	"glis.dev/glis/image/proto"
)

// page returns the address of the n-th page.
func page(n uint64) uint64 { return n * PageSize }

// writePagemap makes a pagemap of PID 1 and its pages. fill names the content:
// every page of it begins with that byte.
func writePagemap(t testing.TB, s Store, fill byte, ranges ...Range) {
	t.Helper()
	w, err := NewPagemapWriter(s, Pagemap, 1, 3)
	check(t, err)
	for _, r := range ranges {
		check(t, w.Add(r.Vaddr, r.Pages, r.Flags))
	}
	check(t, w.Close())
	f, err := s.Create(Pages.FileName(3))
	check(t, err)
	for i := range w.Offset() / PageSize {
		content := make([]byte, PageSize)
		content[0], content[1] = fill, byte(i)
		_, err := f.Write(content)
		check(t, err)
	}
	check(t, f.Close())
}

func openPagemap(t *testing.T, s Store) *PagemapFile {
	t.Helper()
	p, err := OpenPagemap(s, Pagemap, 1)
	check(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestPagemapWriterBytes(t *testing.T) {
	s := memory{}
	writePagemap(t, s, 'a',
		Range{Vaddr: page(1), Pages: 1, Flags: PagePresent},
		Range{Vaddr: page(2), Pages: 1, Flags: PagePresent},
		Range{Vaddr: page(3), Pages: 1, Flags: PageParent},
		Range{Vaddr: page(5), Pages: 0, Flags: PageParent},
		Range{Vaddr: page(5), Pages: 300, Flags: PagePresent | PageLazy})
	want := "1943565425400856" + "020000000803" +
		"09000000" + "088020" + "1000" + "2004" + "2802" +
		"07000000" + "088060" + "1001" + "2001" +
		"0b000000" + "0880a001" + "1000" + "2006" + "28ac02"
	if got := hex.EncodeToString(s["pagemap-1.img"].b); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	p := openPagemap(t, s)
	wantRanges := []Range{
		{page(1), 2, PagePresent, 0}, {page(3), 1, PageParent, 0}, {page(5), 300, PagePresent | PageLazy, 2 * PageSize},
	}
	if !slices.Equal(p.Ranges, wantRanges) || p.PagesID != 3 || p.Pages().Size() != 302*PageSize {
		t.Errorf("%+v", p)
	}
	for address, want := range map[uint64]int{page(1): 0, page(3) - 1: 0, page(3): 1, page(304) + 5: 2} {
		if i, ok := p.Find(address); !ok || i != want {
			t.Errorf("Find(%#x) = %d, %v", address, i, ok)
		}
	}
	for _, address := range []uint64{0, page(1) - 1, page(4), page(305), 1 << 63} {
		if i, ok := p.Find(address); ok {
			t.Errorf("Find(%#x) = %d", address, i)
		}
	}
}

func TestPagemapWriterRefuses(t *testing.T) {
	for name, ranges := range map[string][]Range{
		"descending":    {{page(5), 1, PagePresent, 0}, {page(1), 1, PagePresent, 0}},
		"overlap":       {{page(5), 2, PagePresent, 0}, {page(6), 1, PagePresent, 0}},
		"not a page":    {{page(5) + 8, 2, PagePresent, 0}},
		"kernel":        {{1 << 47, 1, PagePresent, 0}},
		"across":        {{1<<47 - PageSize, 2, PagePresent, 0}},
		"wraps":         {{PageSize, 1<<64 - 1, PagePresent, 0}},
		"nowhere":       {{page(5), 1, 0, 0}},
		"unknown flags": {{page(5), 1, 12, 0}},
	} {
		w, err := NewPagemapWriter(memory{}, Pagemap, 1, 3)
		check(t, err)
		for _, r := range ranges {
			err = w.Add(r.Vaddr, r.Pages, r.Flags)
		}
		if err == nil || w.Close() != err { //nolint:errorlint // the very same
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rawPagemap makes a pagemap of messages.
func rawPagemap(t testing.TB, s memory, size int, all ...*pagemap.PagemapEntry) {
	t.Helper()
	entries := []entry{{m: &pagemap.PagemapHead{PagesId: proto.Uint32(3)}}}
	for _, e := range all {
		entries = append(entries, entry{m: e})
	}
	writeEntries(t, s, Pagemap, entries, 1)
	s["pages-3.img"] = &memFile{make([]byte, size)}
}

func pme(vaddr uint64, pages uint32) *pagemap.PagemapEntry {
	return &pagemap.PagemapEntry{Vaddr: &vaddr, CompatNrPages: &pages}
}

func TestPagemapOfOlderVersions(t *testing.T) {
	inParent := pme(page(4), 2)
	inParent.InParent = proto.Bool(true)
	notInParent := pme(page(6), 1)
	notInParent.InParent = proto.Bool(false)
	newer := pme(page(8), 77)
	newer.NrPages, newer.Flags = proto.Uint64(1), proto.Uint32(PageLazy)
	s := memory{}
	rawPagemap(t, s, 4*PageSize, pme(page(1), 3), inParent, notInParent, newer)
	want := []Range{
		{page(1), 3, PagePresent, 0}, {page(4), 2, PageParent, 0}, {page(6), 1, PagePresent, 3 * PageSize}, {page(8), 1, PageLazy, 0},
	}
	if p := openPagemap(t, s); !slices.Equal(p.Ranges, want) {
		t.Errorf("%+v", p.Ranges)
	}
}

// A page's place follows from the order in the file, not from its address.
func TestPagemapOutOfOrder(t *testing.T) {
	s := memory{}
	rawPagemap(t, s, 3*PageSize, pme(page(7), 1), pme(page(5), 1), pme(page(9), 1), pme(page(1), 0))
	want := []Range{{page(5), 1, PagePresent, PageSize}, {page(7), 1, PagePresent, 0}, {page(9), 1, PagePresent, 2 * PageSize}}
	if p := openPagemap(t, s); !slices.Equal(p.Ranges, want) {
		t.Errorf("%+v", p.Ranges)
	}
}

func TestHostilePagemaps(t *testing.T) {
	huge := pme(page(1), 1)
	huge.NrPages = proto.Uint64(1 << 63)
	most := pme(0, 0)
	most.NrPages = proto.Uint64(1 << 35)
	for name, all := range map[string][]*pagemap.PagemapEntry{
		"overlap":       {pme(page(1), 2), pme(page(2), 1)},
		"twice":         {pme(page(1), 1), pme(page(1), 1)},
		"not a page":    {pme(5, 1)},
		"kernel":        {pme(1<<63, 1)},
		"too many":      {huge},
		"across":        {pme(1<<47-PageSize, 2)},
		"pages missing": {pme(page(1), 3)},
		"terabytes":     {most},
	} {
		s := memory{}
		rawPagemap(t, s, 2*PageSize, all...)
		_, err := OpenPagemap(s, Pagemap, 1)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPagemapCutEverywhere(t *testing.T) {
	s := memory{}
	writePagemap(t, s, 'a', Range{Vaddr: page(1), Pages: 2, Flags: PagePresent}, Range{Vaddr: page(5), Pages: 1, Flags: PagePresent})
	whole := s["pagemap-1.img"].b
	for n := range whole {
		s["pagemap-1.img"] = &memFile{whole[:n]}
		p, err := OpenPagemap(s, Pagemap, 1)
		switch {
		case err != nil:
			checkCut(t, n, err)
		case len(p.Ranges) == 2:
			t.Errorf("cut at %d of %d goes unnoticed", n, len(whole))
		}
	}
}

func TestPagemapWithoutPagesFile(t *testing.T) {
	s := memory{}
	writePagemap(t, s, 'a', Range{Vaddr: page(1), Pages: 2, Flags: PageLazy})
	delete(s, "pages-3.img")
	if p := openPagemap(t, s); p.Pages() != nil {
		t.Error("pages without a file")
	}
	s = memory{}
	writePagemap(t, s, 'a', Range{Vaddr: page(1), Pages: 2, Flags: PagePresent})
	delete(s, "pages-3.img")
	if _, err := OpenPagemap(s, Pagemap, 1); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "its pages") {
		t.Error(err)
	}
}

// checkEntry: the codec of pagemap entries agrees with that of the message.
func checkEntry(t *testing.T, b []byte) {
	t.Helper()
	var m pagemap.PagemapEntry
	want := proto.Unmarshal(b, &m)
	e, err := decodeEntry(b)
	if (err == nil) != (want == nil) {
		t.Fatalf("%v, the message's codec says %v", err, want)
	}
	if err != nil {
		return
	}
	if e.vaddr != m.GetVaddr() || e.compatPages != m.GetCompatNrPages() || e.inParent != m.GetInParent() ||
		e.flags != m.GetFlags() || e.pages != m.GetNrPages() ||
		e.has&(1<<fieldFlags) != 0 != (m.Flags != nil) || e.has&(1<<fieldPages) != 0 != (m.NrPages != nil) {
		t.Fatalf("%+v, want %v", e, &m)
	}
	again := &pagemap.PagemapEntry{Vaddr: &e.vaddr, CompatNrPages: proto.Uint32(0), Flags: &e.flags, NrPages: &e.pages}
	if e.flags&PagePresent == 0 && e.pages <= math.MaxUint32 {
		again.CompatNrPages, again.NrPages = proto.Uint32(uint32(e.pages)), nil
	}
	wantBytes, err := marshal.Marshal(again)
	check(t, err)
	if got := appendRange(nil, Range{Vaddr: e.vaddr, Pages: e.pages, Flags: e.flags}); !bytes.Equal(got[4:], wantBytes) {
		t.Fatalf("%x, want %x", got[4:], wantBytes)
	}
}

func BenchmarkPagemap(b *testing.B) {
	const count = 100000
	s := memory{}
	for b.Loop() {
		clear(s)
		w, err := NewPagemapWriter(s, Pagemap, 1, 3)
		check(b, err)
		for i := range uint64(count) {
			check(b, w.Add(page(2*i), 1, PageLazy))
		}
		check(b, w.Close())
		p, err := OpenPagemap(s, Pagemap, 1)
		check(b, err)
		if len(p.Ranges) != count {
			b.Fatal(len(p.Ranges))
		}
	}
}
