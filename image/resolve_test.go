package image

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// checkpoints makes directories 1, 2, … each building on the one before.
func checkpoints(t *testing.T, ranges ...[]Range) (last *Dir, path string) {
	t.Helper()
	path = t.TempDir()
	for i, r := range ranges {
		check(t, os.Mkdir(fmt.Sprintf("%s/%d", path, i+1), 0o700))
		last = openDir(t, fmt.Sprintf("%s/%d", path, i+1))
		if i > 0 {
			check(t, last.SetParent(fmt.Sprintf("../%d", i)))
		}
		if r != nil {
			writePagemap(t, last, 'a'+byte(i), r...)
		}
	}
	return last, path
}

// contents names every page by the first two bytes of its content.
func contents(t *testing.T, r *Resolved) []string {
	t.Helper()
	var all []string
	for _, p := range r.Pieces {
		for i := range p.Pages {
			where := fmt.Sprintf("%x=", p.Vaddr/PageSize+i)
			if p.Source != nil {
				b := make([]byte, 2)
				_, err := p.Source.ReadAt(b, p.Offset+int64(i*PageSize))
				check(t, err)
				where += fmt.Sprintf("%c%d", b[0], b[1])
			}
			if p.Lazy {
				where += "?"
			}
			all = append(all, where)
		}
	}
	return all
}

func TestResolve(t *testing.T) {
	const in, up, lazy = PagePresent, PageParent, PageLazy
	d, _ := checkpoints(t,
		[]Range{{page(1), 10, in, 0}, {page(20), 2, in | lazy, 0}},
		[]Range{{page(1), 3, up, 0}, {page(4), 2, in, 0}, {page(6), 5, up, 0}, {page(20), 2, up, 0}},
		[]Range{{page(2), 4, up, 0}, {page(6), 1, in, 0}, {page(7), 2, up | lazy, 0}, {page(12), 1, lazy, 0}, {page(20), 2, up, 0}},
	)
	p := openPagemap(t, d)
	r, err := p.Resolve()
	check(t, err)
	want := []string{"2=a1", "3=a2", "4=b0", "5=b1", "6=c0", "7=a6?", "8=a7?", "c=?", "14=a10", "15=a11"}
	if got := contents(t, r); !slices.Equal(got, want) {
		t.Errorf("%q, want\n%q", got, want)
	}
	var depths []int
	for _, p := range r.Pieces {
		depths = append(depths, p.Depth)
	}
	if !slices.Equal(depths, []int{2, 1, 0, 2, 0, 2}) {
		t.Errorf("depths %d of %+v", depths, r.Pieces)
	}
	check(t, r.Close())
}

func TestResolveJoinsPieces(t *testing.T) {
	d, _ := checkpoints(t,
		[]Range{{page(1), 10, PagePresent, 0}},
		[]Range{{page(1), 5, PageParent, 0}, {page(6), 5, PageParent, 0}},
	)
	s := openPagemap(t, d)
	// Two ranges again, as criu writes them, where our writer made one.
	s.Ranges = []Range{{page(1), 5, PageParent, 0}, {page(6), 5, PageParent, 0}}
	r, err := s.Resolve()
	check(t, err)
	if len(r.Pieces) != 1 || r.Pieces[0].Pages != 10 {
		t.Errorf("%+v", r.Pieces)
	}
	check(t, r.Close())
}

func TestResolveFails(t *testing.T) {
	up := []Range{{page(1), 4, PageParent, 0}}
	for name, tt := range map[string]struct {
		chain [][]Range
		text  string
	}{
		"no parent":        {[][]Range{up}, "no parent checkpoint"},
		"no pagemap there": {[][]Range{nil, up}, "which lacks them"},
		"end is missing":   {[][]Range{{{page(1), 3, PagePresent, 0}}, up}, "no page at 0x4000"},
		"start is missing": {[][]Range{{{page(2), 3, PagePresent, 0}}, up}, "no page at 0x1000"},
		"hole":             {[][]Range{{{page(1), 1, PagePresent, 0}, {page(3), 3, PagePresent, 0}}, up}, "no page at 0x2000"},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := checkpoints(t, tt.chain...)
			_, err := openPagemap(t, d).Resolve()
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Error(err)
			}
		})
	}
}

func TestResolveCircle(t *testing.T) {
	up := []Range{{page(1), 4, PageParent, 0}}
	d, path := checkpoints(t, up, up)
	check(t, os.Symlink("../2", path+"/1/parent"))
	if _, err := openPagemap(t, d).Resolve(); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Error(err)
	}
}

func TestResolveWithoutParents(t *testing.T) {
	s := memory{}
	writePagemap(t, s, 'a', Range{Vaddr: page(1), Pages: 4, Flags: PageParent})
	if _, err := openPagemap(t, s).Resolve(); !errors.Is(err, ErrNoParent) {
		t.Error(err)
	}
}

func TestResolveOfFlagsThatSayNothing(t *testing.T) {
	s := memory{}
	e := pme(page(1), 1)
	e.Flags = new(uint32)
	rawPagemap(t, s, PageSize, e)
	if _, err := openPagemap(t, s).Resolve(); err == nil {
		t.Error("a page that is nowhere")
	}
}
