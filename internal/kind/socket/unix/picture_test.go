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

// The kernel leaves sockets out when others are closed while it tells of all.
func TestPictureMissed(t *testing.T) {
	s := &sockets{t: t}
	a, b := s.pair(sys.SOCK_STREAM)
	inode := func(n int) uint32 {
		var st sys.Stat_t
		s.must(sys.Fstat(n, &st))
		return uint32(st.Ino)
	}
	p := picture{tree: map[uint32]bool{inode(a): true, inode(b): true, 1: true, 2: true}}
	s.must(p.all())
	delete(p.socks, inode(a))
	for range 2 { // once among all, once by itself
		if u, err := p.get(inode(a)); err != nil || u == nil || u.Peer != inode(b) {
			t.Errorf("left out once it is %+v, %v", u, err)
		}
		delete(p.socks, inode(a))
	}
	for _, n := range []uint32{1, 2, 3} { // of another namespace; the last is nobody's
		if u, err := p.get(n); err != nil || u != nil {
			t.Errorf("socket %d is %+v, %v", n, u, err)
		}
	}
	if _, asked := p.socks[2]; asked {
		t.Error("once one is known to be of another namespace, others are asked for")
	}
}
