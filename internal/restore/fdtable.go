package restore

import (
	"fmt"
	"maps"
	"slices"
)

// fdTable is what a task's descriptor table will look like: the kernel gives
// out the lowest free number, so a batch can be built before its descriptors
// exist. Tasks that share a table share this, too.
type fdTable struct {
	few  []uint64         // a bit for each number that is not large, by number/64
	many map[int32]uint64 // the same for all others; may be nil
	low  int32            // every number below is in use
}

// fewWords is how many words few may have: 8 KiB for 65536 numbers. Images may tell of any
// number, and of many tasks with tables of their own.
const fewWords = 1 << 10

func newFDTable(taken ...int32) *fdTable {
	t := &fdTable{}
	for _, n := range taken {
		t.take(n)
	}
	return t
}

// has tells whether a number is in use.
func (t *fdTable) has(n int32) bool {
	word := uint32(n) / 64
	if word < uint32(len(t.few)) {
		return t.few[word]&(1<<(n%64)) != 0
	}
	return t.many[n/64]&(1<<(n%64)) != 0
}

// copy returns what a child has that does not share the table.
func (t *fdTable) copy() *fdTable {
	return &fdTable{few: slices.Clone(t.few), many: maps.Clone(t.many), low: t.low}
}

// alloc takes the lowest free number.
func (t *fdTable) alloc() int32 {
	for t.has(t.low) {
		t.low++
	}
	t.take(t.low)
	return t.low
}

// take marks a number as used.
func (t *fdTable) take(n int32) {
	switch word := int(n / 64); {
	case word < len(t.few):
		t.few[word] |= 1 << (n % 64)
	case word < fewWords:
		t.few = append(t.few, make([]uint64, word+1-len(t.few))...)
		t.few[word] |= 1 << (n % 64)
	case t.many == nil:
		t.many = map[int32]uint64{n / 64: 1 << (n % 64)}
	default:
		t.many[n/64] |= 1 << (n % 64)
	}
}

// free marks a number as unused.
func (t *fdTable) free(n int32) {
	if word := int(n / 64); word < len(t.few) {
		t.few[word] &^= 1 << (n % 64)
	} else if word >= fewWords && t.many != nil {
		t.many[n/64] &^= 1 << (n % 64)
	}
	t.low = min(t.low, n)
}

// transport picks the number under which every task has its end of the
// socket that descriptors come through: one that no task of the tree uses,
// and low, since the kernel's tables grow with the highest number.
func (tr *tree) transport(limit int32) (int32, error) {
	used, top := newFDTable(), int32(2)
	for _, t := range tr.tasks {
		for _, e := range t.fds {
			used.take(e.fd)
			top = max(top, e.fd)
		}
	}
	if top >= limit {
		return 0, fmt.Errorf("descriptor %d of the tree is beyond the limit of %d; raise the hard limit (ulimit -Hn)", top, limit)
	}
	for n := min(top+1, limit-1); n > 2; n-- {
		if !used.has(n) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("every descriptor below the limit of %d is in use by the tree; raise the hard limit (ulimit -Hn)", limit)
}
