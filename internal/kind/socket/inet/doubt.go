package inet

import (
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/plan"
)

// mostRehearsed is of how many sockets a restore is rehearsed.
const mostRehearsed = 500

// Undoubted implements kind.Doubter. Sockets hardly depend on each other, so that of
// many it is not worth the time that the tree stands still.
func (k *Kind) Undoubted(_ plan.Source, all []*fdinfo.FileEntry, sure []bool) error {
	n := 0
	for _, e := range all {
		if e.GetIsk() != nil {
			n++
		}
	}
	for i, e := range all {
		sure[i] = sure[i] || n > mostRehearsed && e.GetIsk() != nil
	}
	return nil
}
