package restore

import (
	criu_core "glis.dev/glis/image/criu/criu-core"
)

// filtered tells whether any thread of the tree is under seccomp.
func (tr *tree) filtered() bool {
	for _, t := range tr.tasks {
		if t.filterSize() > 0 {
			return true
		}
	}
	return false
}

// filterRoom is more than the filters of a thread take in a batch, unless there
// are very many; the largest there is has 32 KiB.
const filterRoom = 128 << 10

// filter is what a thread is under of seccomp(2).
type filter struct {
	mode criu_core.SeccompMode
	last uint32 // number of the filter that it got last
}

func filterOf(c *criu_core.CoreEntry) filter {
	return filter{c.GetThreadCore().GetSeccompMode(), c.GetThreadCore().GetSeccompFilter()}
}

// filterSize is how much more room the batches of a task need for filters.
func (t *task) filterSize() uint64 {
	size := uint64(0)
	for i := range t.images {
		if t.images[i].under.mode != criu_core.SeccompMode_disabled {
			size += filterRoom
		}
	}
	return size
}

// sameFilters tells whether all of several threads are under the same filters.
func (t *task) sameFilters() bool {
	for i := range t.images {
		if t.images[i].under != t.images[0].under {
			return false
		}
	}
	return len(t.images) > 1
}
