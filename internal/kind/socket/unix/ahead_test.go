package unix

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	sys "golang.org/x/sys/unix"
)

// Queues that are read ahead, all at once, are dumped as others are, and left as
// they were. What isn't plain is found out, and read as ever.
func TestReadAhead(t *testing.T) {
	var fds []int
	for i := range 2 * someAhead {
		p, err := sys.Socketpair(sys.AF_UNIX, sys.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sys.Close(p[0]); sys.Close(p[1]) })
		fds = append(fds, p[0], p[1])
		var with []byte
		switch i {
		case 3:
			with = sys.UnixRights(p[0])
		case 5: // two buffers, which one message would not be
			err = sys.Sendmsg(p[0], make([]byte, 100), nil, nil, 0)
		}
		if err == nil {
			err = sys.Sendmsg(p[0], make([]byte, 1000+i), with, nil, 0)
		}
		if err == nil && i == 7 { // in front of it may be what only the kernel's memory shows
			err = sys.Sendmsg(p[0], []byte{7}, nil, nil, sys.MSG_OOB)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	quick := surveyed()
	got, err := dumpWith(t, quick, scanned(t, fds...))
	if err != nil {
		t.Fatal(err)
	}
	want, err := dumpTree(t, scanned(t, fds...))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range slices.Collect(maps.Keys(want)) {
		if !reflect.DeepEqual(got[row], want[row]) {
			t.Errorf("%s: read ahead, it is something else", row.Pattern)
		}
	}
	if n := len(quick.ahead); n != 2*someAhead-3 {
		t.Errorf("%d queues were read ahead, of %d", n, 2*someAhead-3)
	}
	for _, n := range fds {
		if off, err := sys.GetsockoptInt(n, sys.SOL_SOCKET, sys.SO_PEEK_OFF); err != nil || off != -1 {
			t.Errorf("descriptor %d: SO_PEEK_OFF is %d (%v)", n, off, err)
		}
	}
}
