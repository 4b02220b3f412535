package image

import (
	"slices"
	"testing"
)

// A large pagemap is streamed as it is read otherwise; one that must be known as a whole,
// or that is wrong, isn't: OpenPagemap reads it, or says what is wrong.
func TestStreamPagemap(t *testing.T) {
	const n = 1 << 17
	var all []Range
	for i := range uint64(n) {
		all = append(all, Range{Vaddr: page(3 * i), Pages: 1 + i%2, Flags: PagePresent | uint32(i%3/2)*PageLazy})
	}
	// Nobody reads the pages, and all of them would be half a GiB.
	write := func(ranges []Range, pages int64) memory {
		s := memory{}
		w, err := NewPagemapWriter(s, Pagemap, 1, 3)
		check(t, err)
		for _, r := range ranges {
			check(t, w.Add(r.Vaddr, r.Pages, r.Flags))
		}
		check(t, w.Close())
		s["pages-3.img"] = &memFile{make([]byte, pages)}
		return s
	}
	stream := func(s Store) (got []Range, room int, ok bool) {
		p, err := StreamPagemap(s, Pagemap, 1, func(n int) { room = n }, func(p Piece) error {
			r := Range{p.Vaddr, p.Pages, PagePresent, p.Offset}
			if p.Lazy {
				r.Flags |= PageLazy
			}
			got = append(got, r)
			return nil
		})
		check(t, err)
		if p == nil {
			return got, room, false
		}
		if p.PagesID != 3 || p.Pages() == nil {
			t.Errorf("%+v", p)
		}
		check(t, p.Close())
		return got, room, true
	}
	size := int64(n + n/2)
	s := write(all, size*PageSize)
	if got, room, ok := stream(s); !ok || room != n || !slices.Equal(got, openPagemap(t, s).Ranges) {
		t.Errorf("%v, %d ranges, room for %d", ok, len(got), room)
	}
	inParent, absent := slices.Clone(all), slices.Clone(all)
	inParent[n-1].Flags, absent[5].Flags = PageParent, PageLazy
	full := s["pages-3.img"].b
	for what, s := range map[string]memory{
		"a short one":        write(all[:50], 75*PageSize),
		"one with a parent":  write(inParent, 0),
		"one that is lazy":   write(absent, 0),
		"one that is absent": {},
		"a cut one":          {"pagemap-1.img": &memFile{s["pagemap-1.img"].b[:len(s["pagemap-1.img"].b)-3]}},
		"one without pages":  {"pagemap-1.img": s["pagemap-1.img"]},
		"one with too few":   {"pagemap-1.img": s["pagemap-1.img"], "pages-3.img": &memFile{full[:len(full)-1]}},
	} {
		if got, room, ok := stream(s); ok || room != 0 || got != nil {
			t.Errorf("%s: %v, %d ranges, room for %d", what, ok, len(got), room)
		}
	}
}
