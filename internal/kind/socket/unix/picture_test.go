package unix

import (
	"errors"
	"testing"

	sys "golang.org/x/sys/unix"
)

// A namespace may have many sockets: who looks at all of them asks whether there
// is time left.
func TestPictureEnds(t *testing.T) {
	for range 4 {
		p, err := sys.Socketpair(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer sys.Close(p[0])
		defer sys.Close(p[1])
	}
	stop, asked := errors.New("no time left"), 0
	p := picture{check: func() error { asked++; return stop }}
	if err := p.all(); !errors.Is(err, stop) || asked != 1 || p.whole {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
