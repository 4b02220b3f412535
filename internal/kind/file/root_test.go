package file

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestRootDirectory(t *testing.T) {
	g := self(t)
	g.add(open(t, "/", unix.O_RDONLY|unix.O_DIRECTORY))
	if got := g.roundTrip()[1]; got == nil {
		t.Error("it did not come back")
	}
}
