package unix

import (
	"errors"
	"testing"

	sys "golang.org/x/sys/unix"
)

// The name of sockets that are only in each other's queues can be had.
func TestGarbage(t *testing.T) {
	name := []byte("\x00glis test of garbage")
	for range 20 {
		var all [2]int
		for i := range all {
			n, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = n
			its := append(name[:len(name):len(name)], byte('0'+i))
			if err := afterGarbage(its, func() error { return bindRaw(n, its) }); err != nil {
				t.Fatal(err)
			}
		}
		for i, n := range all {
			if err := sys.Sendmsg(n, []byte("x"), sys.UnixRights(n), &sys.SockaddrUnix{Name: "@" + string(name[1:]) + string(rune('1'-i))}, 0); err != nil {
				t.Fatal(err)
			}
		}
		sys.Close(all[0])
		sys.Close(all[1])
	}
	s := &sockets{t: t}
	a, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.own(a)
	held := append(name[:len(name):len(name)], 'h')
	if err := bindRaw(a, held); err != nil {
		t.Fatal(err)
	}
	b, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.own(b)
	tries := 0
	err = afterGarbage(held, func() error { tries++; return bindRaw(b, held) })
	if !errors.Is(err, sys.EADDRINUSE) || tries != 1 {
		t.Errorf("a name that somebody has: %v, after %d tries", err, tries)
	}
}
