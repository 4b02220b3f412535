package image

import "errors"

// wholeAtLeast is how large a pagemap is, in bytes, that is read twice rather than kept.
const wholeAtLeast = 1 << 20

// errOtherwise says that a pagemap has to be known as a whole before anything can be said
// of a range of it.
var errOtherwise = errors.New("not in order, or not all in one checkpoint")

// StreamPagemap calls f for every range of pages of a large pagemap, by address, and before
// it ready with how many there are, if they are in order in it, and all in its checkpoint
// itself. It returns the pagemap without Ranges, which is to be closed after use. If it is
// another one, or anything is wrong with it, nobody has been called, and it returns nil:
// OpenPagemap tells more. It is for who needs no list of what may be a million of them.
func StreamPagemap(s Store, r *Row, id uint64, ready func(n int), f func(Piece) error) (*PagemapFile, error) {
	p, n := lookThrough(s, r, id)
	if p == nil {
		return nil, nil
	}
	_, rd, err := startPagemap(s, r, id)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	defer rd.Close() //nolint:errcheck // only read from
	ready(n)
	err = rd.eachRange(func(x Range) error {
		if x.Flags&PagePresent == 0 || x.Offset+int64(x.Pages*PageSize) > p.pages.Size() {
			return rd.fail(errOtherwise) // it has changed meanwhile
		}
		return f(Piece{Vaddr: x.Vaddr, Pages: x.Pages, Source: p.pages, Offset: x.Offset, Lazy: x.Flags&PageLazy != 0})
	})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// lookThrough returns a pagemap with its pages file open, and how many ranges it has, if
// it is one for StreamPagemap; nil if not.
func lookThrough(s Store, r *Row, id uint64) (*PagemapFile, int) {
	p, rd, err := startPagemap(s, r, id)
	if err != nil {
		return nil, 0
	}
	defer rd.Close() //nolint:errcheck // only read from
	if rd.left() < wholeAtLeast {
		return nil, 0
	}
	n, last := 0, Range{}
	err = rd.eachRange(func(x Range) error {
		if x.Flags&PagePresent == 0 || x.Flags&PageParent != 0 || n > 0 && last.End() > x.Vaddr {
			return errOtherwise
		}
		n, last = n+1, x
		return nil
	})
	if err != nil || n == 0 {
		return nil, 0
	}
	p.Ranges = []Range{last} // what reaches farthest in the pages file
	err, p.Ranges = p.openPages(), nil
	if err != nil {
		return nil, 0
	}
	return p, n
}
