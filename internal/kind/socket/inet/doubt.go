package inet

import (
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// mostRehearsed is of how many sockets a restore is rehearsed.
const mostRehearsed = 500

// Doubt implements kind.Doubter. Sockets hardly depend on each other, so that of
// many it is not worth the time that the tree stands still.
func (k *Kind) Doubt(plan.Source) (kind.Doubt, error) { return &doubt{}, nil }

// doubt is where the entries of internet sockets are.
type doubt struct{ all []uint32 }

// See implements kind.Doubt.
func (d *doubt) See(at int, e *fdinfo.FileEntry) {
	if e.GetType() == fdinfo.FdTypes_INETSK {
		d.all = append(d.all, uint32(at))
	}
}

// Sure implements kind.Doubt.
func (d *doubt) Sure(sure []bool) {
	if len(d.all) <= mostRehearsed {
		return
	}
	for _, at := range d.all {
		sure[at] = true
	}
}
