package mem

import (
	"fmt"
	"math"

	"glis.dev/glis/internal/pages"
)

// piece is a run of stored pages. There may be a million of them.
type piece struct {
	at  uint64 // where it begins; in the bits below a page pieceUp, and above it highest of off
	n   uint32 // pages
	off uint32 // in the task's own pages file, the lower bits of the page's number
}

const (
	pieceUp   = 1         // it is in a parent checkpoint instead
	pieceLow  = page - 1  // what isn't part of an address
	pieceHigh = page >> 1 // how many values the rest of these bits has
)

// newPiece returns the piece of a span that is at an offset of its file.
func newPiece(s pages.Span, off int64, up bool) (piece, error) {
	at, n := uint64(off)/page, s.Len()/page
	if (s.Start|s.End|uint64(off))&pieceLow != 0 || off < 0 || s.End <= s.Start || n > math.MaxUint32 || at>>32 >= pieceHigh {
		return piece{}, fmt.Errorf("pages from %#x to %#x, at %#x of their file, can't be", s.Start, s.End, off)
	}
	p := piece{at: s.Start | at>>32<<1, n: uint32(n), off: uint32(at)}
	if up {
		p.at |= pieceUp
	}
	return p, nil
}

func (p *piece) start() uint64    { return p.at &^ pieceLow }
func (p *piece) end() uint64      { return p.start() + uint64(p.n)*page }
func (p *piece) span() pages.Span { return pages.Span{Start: p.start(), End: p.end()} }
func (p *piece) up() bool         { return p.at&pieceUp != 0 }

// offset is where it is in the task's own pages file, in bytes.
func (p *piece) offset() int64 { return int64((p.at&pieceLow>>1<<32 | uint64(p.off)) * page) }

// part returns what of it is from one page to another.
func (p *piece) part(start, end uint64) piece {
	out, err := newPiece(pages.Span{Start: start, End: end}, p.offset()+int64(start-p.start()), p.up())
	if err != nil {
		panic(err) // as it was one before
	}
	return out
}

// addPiece adds a piece behind all others, or makes the last one longer.
func (s *Space) addPiece(p piece) {
	if n := len(s.pieces); n > 0 {
		last := &s.pieces[n-1]
		if last.end() == p.start() && last.offset()+int64(last.n)*page == p.offset() && last.up() == p.up() && last.n <= math.MaxUint32-p.n {
			last.n += p.n
			return
		}
	}
	s.pieces = append(s.pieces, p)
}
