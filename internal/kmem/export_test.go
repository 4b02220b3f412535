package kmem

import "slices"

// For tests of another package.
var Find = find

// Names are the members that the package itself needs.
func Names() []string {
	return slices.Concat(ownNames(), bufferNames(), taskNames(), percpuNames(), fileNames(), EpollNames())
}
