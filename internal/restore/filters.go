package restore

import (
	criu_core "glis.dev/glis/image/criu/criu-core"
)

// filtered tells whether any thread of the tree is under seccomp.
func (tr *tree) filtered() bool {
	for _, t := range tr.tasks {
		for i := range t.images {
			if t.images[i].under.mode != criu_core.SeccompMode_disabled {
				return true
			}
		}
	}
	return false
}

// filter is what a thread is under of seccomp(2).
type filter struct {
	mode criu_core.SeccompMode
	last uint32 // number of the filter that it got last
}

func filterOf(c *criu_core.CoreEntry) filter {
	return filter{c.GetThreadCore().GetSeccompMode(), c.GetThreadCore().GetSeccompFilter()}
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
