package mem

import (
	"math"
	"testing"

	"glis.dev/glis/internal/pages"
)

// pieceOf is a piece from one page to another.
func pieceOf(p [2]uint64, off int64, up bool) piece {
	out, err := newPiece(pages.Span{Start: p[0] * page, End: p[1] * page}, off, up)
	if err != nil {
		panic(err)
	}
	return out
}

// TestPiece: what is put into 16 bytes is what comes out of them, and what doesn't fit isn't taken.
func TestPiece(t *testing.T) {
	const end = math.MaxInt64 &^ (page - 1)
	for _, x := range []struct {
		from, to uint64
		off      int64
	}{
		{0, page, 0}, {page, 3 * page, 5 * page}, {1 << 46, 1<<46 + page, 1<<44 + page}, {1<<56 - page, 1 << 56, 1<<54 + 7*page},
		{page, page + math.MaxUint32*page, page<<43 - page},
	} {
		for _, up := range []bool{false, true} {
			p, err := newPiece(pages.Span{Start: x.from, End: x.to}, x.off, up)
			if err != nil || p.start() != x.from || p.end() != x.to || p.offset() != x.off || p.up() != up {
				t.Errorf("%#x-%#x at %#x, %v: %v, %#x-%#x at %#x, %v", x.from, x.to, x.off, up, err, p.start(), p.end(), p.offset(), p.up())
			}
		}
	}
	for _, x := range []struct {
		from, to uint64
		off      int64
	}{
		{1, page, 0}, {0, page + 1, 0}, {0, page, 1}, {0, page, -page}, {page, page, 0}, {2 * page, page, 0},
		{0, (math.MaxUint32 + 1) * page, 0}, {0, page, page << 43}, {0, page, end},
	} {
		if p, err := newPiece(pages.Span{Start: x.from, End: x.to}, x.off, false); err == nil {
			t.Errorf("%#x-%#x at %#x: %v", x.from, x.to, x.off, p)
		}
	}
}

// Pieces that are behind each other are one, as long as that has room for as many pages.
func TestAddPiece(t *testing.T) {
	const most = math.MaxUint32
	s := &Space{}
	for _, p := range []piece{
		pieceOf([2]uint64{1, 2}, 0, false), pieceOf([2]uint64{2, 4}, page, false), // one
		pieceOf([2]uint64{4, 5}, 4*page, false), pieceOf([2]uint64{5, 6}, 5*page, true), // elsewhere
		pieceOf([2]uint64{6, 6 + most}, 6*page, true), pieceOf([2]uint64{6 + most, 7 + most}, (6+most)*page, true), // too long with the one before
	} {
		s.addPiece(p)
	}
	if len(s.pieces) != 5 || s.pieces[0] != pieceOf([2]uint64{1, 4}, 0, false) {
		t.Errorf("%v", s.pieces)
	}
}
