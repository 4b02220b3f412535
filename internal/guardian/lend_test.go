package guardian

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// TestLendMany: more are lent than one socket has room for, and none is waited for; all come
// to the guardian, or are taken back.
func TestLendMany(t *testing.T) {
	const many = 1000
	lend := func() (g *Guard, theirs *fd.FD, lent int) {
		g = &Guard{}
		theirs, err := socketpair(&g.hands)
		if err != nil {
			t.Fatal(err)
		}
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		for range many {
			if err := g.Lend(p[1]); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() {
			g.hands.Close()
			for _, l := range g.loans {
				l.to.Close()
				l.from.Close()
			}
			theirs.Close()
			unix.Close(p[0])
		})
		unix.Close(p[1])
		return g, theirs, p[0]
	}
	g, theirs, _ := lend()
	handed, err := collect(theirs.Int(), unix.MSG_DONTWAIT)
	if err != nil || len(handed) < 2 {
		t.Fatalf("%d sockets with loans, %v", len(handed), err)
	}
	for _, l := range g.loans {
		l.to.Close() // as the engine's death does
	}
	lent, err := collectLent(handed)
	if err = errors.Join(err, closeAll(lent), closeAll(handed)); err != nil || len(lent) != many {
		t.Errorf("%d of %d were lent, %v", len(lent), many, err)
	}

	g, _, r := lend()
	if n, err := unix.Read(r, make([]byte, 1)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("before: %d, %v", n, err)
	}
	if err := g.TakeBack(); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(r, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("somebody has it still: %d, %v", n, err)
	}
}
