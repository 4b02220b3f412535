package restore

import (
	"testing"
	"time"

	"glis.dev/glis/internal/kind/mem"
)

// The statistics are of the pages that a restore counts, not of a dump's.
func TestStats(t *testing.T) {
	r := &restore{forking: 3 * time.Microsecond, pages: mem.Stats{Restored: 7, SharedCow: 5, Compared: 2}}
	s := r.stats(9 * time.Microsecond)
	if s.GetPagesRestored() != 7 || s.GetPagesSkippedCow() != 5 || s.GetPagesCompared() != 2 || s.GetForkingTime() != 3 || s.GetRestoreTime() != 9 {
		t.Errorf("%v", s)
	}
}
