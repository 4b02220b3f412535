package file

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/plan"
)

// TestProcNetTwice: the kernel forgets the name of a file below /proc/PID/net when it is
// opened once more, and the first one's path ends with "(deleted)" from then on.
func TestProcNetTwice(t *testing.T) {
	name := fmt.Sprintf("/proc/%d/net/dev", os.Getpid())
	a, b := open(t, name, unix.O_RDONLY), open(t, name, unix.O_RDONLY)
	g := self(t)
	f, f2 := g.add(a), g.add(b)
	if f.Link != name+deletedSuffix {
		t.Skipf("%s: the kernel has the name still", f.Link)
	}
	made := g.roundTrip()
	for _, f := range []plan.ID{plan.ID(f.ID), plan.ID(f2.ID)} {
		if n, err := unix.Read(made[f].Int(), make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
	}
}
