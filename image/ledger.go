package image

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
	"sync"
)

// ledger is what a manifest says of all its files: their entries as they are encoded, each
// with its length before it, and where each is. Of thousands of processes there are seven
// files each, so that no more is kept of them.
type ledger struct {
	b  []byte
	at []uint32 // of each entry; in order of names once it is sorted
}

// entryHead is the length of an entry's length.
const entryHead = 4

// add puts an entry behind the others.
func (l *ledger) add(f listed) {
	at := len(l.b)
	l.b = appendListed(append(l.b, 0, 0, 0, 0), f)
	binary.LittleEndian.PutUint32(l.b[at:], uint32(len(l.b)-at-entryHead))
	l.at = append(l.at, uint32(at))
}

// raw returns the i-th entry as it is encoded, with its length before it.
func (l *ledger) raw(i int) []byte {
	b := l.b[l.at[i]:]
	return b[:entryHead+binary.LittleEndian.Uint32(b)]
}

// name returns the name in the i-th entry.
func (l *ledger) name(i int) []byte { return nameIn(l.raw(i)[entryHead:]) }

// entry returns what the i-th entry says, and for a link how large that is and what sums it
// has that it leads to. The entry was made by add, or checked by parseManifest.
func (l *ledger) entry(i int) listed {
	f := l.listing(i)
	return f.listed()
}

// listing is entry, valid as long as nothing is added.
func (l *ledger) listing(i int) listing {
	f, _ := parseListing(l.raw(i)[entryHead:])
	if len(f.link) == 0 {
		return f
	}
	if to, ok := l.find(string(f.link)); ok {
		target, _ := parseListing(l.raw(to)[entryHead:])
		f.size, f.sums = target.size, target.sums
	}
	return f
}

// find returns the number of a file's entry. The ledger must be sorted.
func (l *ledger) find(name string) (int, bool) {
	return sort.Find(len(l.at), func(i int) int { return cmp.Compare(name, string(l.name(i))) })
}

// near is how many entries findNear looks at.
const near = 4

// findNear is find of a file that is likely to be among the next ones behind the i-th, as
// those of sockets are that were made one after the other.
func (l *ledger) findNear(name string, i int) (int, bool) {
	for at := i + 1; at <= i+near && at < len(l.at); at++ {
		if string(l.name(at)) == name {
			return at, true
		}
	}
	return l.find(name)
}

// sort puts the entries in order of names. If a file was there before, what was added
// last counts.
func (l *ledger) sort() {
	l.order()
	l.at = slices.CompactFunc(l.at, func(x, y uint32) bool { return bytes.Equal(l.nameAt(x), l.nameAt(y)) })
}

// order puts the entries in order of names, of one name the last first.
func (l *ledger) order() {
	slices.SortFunc(l.at, func(x, y uint32) int {
		return cmp.Or(bytes.Compare(l.nameAt(x), l.nameAt(y)), cmp.Compare(y, x))
	})
}

// twice returns the number of an entry whose name the next one has, too; -1: there is none.
// The entries must be in order.
func (l *ledger) twice() int {
	for i := 1; i < len(l.at); i++ {
		if bytes.Equal(l.name(i-1), l.name(i)) {
			return i - 1
		}
	}
	return -1
}

func (l *ledger) nameAt(at uint32) []byte {
	b := l.b[at:]
	return nameIn(b[entryHead : entryHead+binary.LittleEndian.Uint32(b)])
}

// drop takes out what gone says of entries by their names and numbers.
func (l *ledger) drop(gone func(name []byte, i int) bool) {
	kept := l.at[:0]
	for i, at := range l.at {
		if !gone(l.nameAt(at), i) {
			kept = append(kept, at)
		}
	}
	l.at = kept
}

// seen is what has been read of the files of a ledger.
type seen struct {
	mu    sync.Mutex
	whole []uint64          // a bit for each: all of it was what it should be
	parts map[int]*checking // of those of which some was
}

func newSeen(files int) *seen {
	return &seen{whole: make([]uint64, (files+63)/64), parts: map[int]*checking{}}
}

// done notes that all of a file was read.
func (s *seen) done(i int) {
	s.mu.Lock()
	s.whole[i/64] |= 1 << (i % 64)
	delete(s.parts, i)
	s.mu.Unlock()
}

// unread returns the numbers of files of which something was not read.
func (s *seen) unread(files int) (out []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range files {
		if s.whole[i/64]&(1<<(i%64)) == 0 {
			out = append(out, uint32(i))
		}
	}
	return out
}

// checking returns what was read of a file, whoever has it open.
func (s *seen) checking(i int, f *listed) *checking {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.parts[i]
	if c == nil {
		c = &checking{}
		c.begin(f.name, f.size, f.sums)
		s.parts[i] = c
	}
	return c
}

// rest returns the chunks of a file that were not seen whole.
func (s *seen) rest(i int, f *listed) []int64 {
	s.mu.Lock()
	c, whole := s.parts[i], s.whole[i/64]&(1<<(i%64)) != 0
	s.mu.Unlock()
	switch {
	case whole:
		return nil
	case c != nil:
		return c.rest()
	}
	out := make([]int64, len(f.sums))
	for n := range out {
		out[n] = int64(n)
	}
	return out
}
