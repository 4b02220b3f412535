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

// filterSize is how much more room the batches of a task need for filters.
func (t *task) filterSize() uint64 {
	size := uint64(0)
	for _, c := range t.cores {
		if c.GetThreadCore().GetSeccompMode() != criu_core.SeccompMode_disabled {
			size += filterRoom
		}
	}
	return size
}
