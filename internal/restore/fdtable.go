package restore

import (
	"fmt"
	"maps"
)

// fdTable is what a task's descriptor table will look like: the kernel gives
// out the lowest free number, so a batch can be built before its descriptors
// exist. Tasks that share a table share this, too.
type fdTable struct {
	used map[int32]uint64 // a bit for each number, by number/64
	low  int32            // every number below is in use
}

func newFDTable(taken ...int32) *fdTable {
	t := &fdTable{used: map[int32]uint64{}}
	for _, n := range taken {
		t.take(n)
	}
	return t
}

// has tells whether a number is in use.
func (t *fdTable) has(n int32) bool { return t.used[n/64]&(1<<(n%64)) != 0 }

// copy returns what a child has that does not share the table.
func (t *fdTable) copy() *fdTable { return &fdTable{used: maps.Clone(t.used), low: t.low} }

// alloc takes the lowest free number.
func (t *fdTable) alloc() int32 {
	for t.has(t.low) {
		t.low++
	}
	t.take(t.low)
	return t.low
}

// take marks a number as used.
func (t *fdTable) take(n int32) { t.used[n/64] |= 1 << (n % 64) }

// free marks a number as unused.
func (t *fdTable) free(n int32) {
	t.used[n/64] &^= 1 << (n % 64)
	t.low = min(t.low, n)
}

// transport picks the number under which every task has its end of the
// socket that descriptors come through: one that no task of the tree uses,
// and low, since the kernel's tables grow with the highest number.
func (tr *tree) transport(limit int32) (int32, error) {
	used, top := newFDTable(), int32(2)
	for _, t := range tr.tasks {
		for _, e := range t.fds {
			used.take(int32(e.GetFd()))
			top = max(top, int32(e.GetFd()))
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
