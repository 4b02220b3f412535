package restore

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/testkit"
)

// All descriptors of a process are sent before it takes the first: there is room for very
// many.
func TestTransportRoom(t *testing.T) {
	testkit.RequireRoot(t)
	tr, err := newTransport(3)
	must(t, err)
	defer tr.close()
	n, err := unix.MemfdCreate("file", unix.MFD_CLOEXEC)
	must(t, err)
	f := fd.New(n)
	defer f.Close()
	own := slices.Repeat([]int{f.Int()}, fd.MaxRights)
	for range 2000 {
		must(t, fd.Send(tr.ours.Int(), own))
	}
}
