package unix

import (
	"testing"

	sys "golang.org/x/sys/unix"
)

// How much more fits into a stream is as before, whatever was read of it.
func TestRoom(t *testing.T) {
	big := make([]byte, 50000)
	read := func(n int) func(a, b int) error {
		return func(a, _ int) error { _, err := sys.Read(a, big[:n]); return err }
	}
	send := func(n, flags int) func(a, b int) error {
		return func(_, b int) error { return sys.Sendmsg(b, big[:n], nil, nil, flags) }
	}
	told := func(a, _ int) error { return sys.SetsockoptInt(a, sys.SOL_SOCKET, sys.SO_PASSCRED, 1) }
	rights := func(_, b int) error { return sys.Sendmsg(b, big[:3000], sys.UnixRights(b), nil, 0) }
	for name, steps := range map[string][]func(a, b int) error{
		"in part":                {send(50000, 0), read(1327), read(975)},
		"in part, small":         {send(3000, 0), send(3000, 0), read(1327)},
		"credentials":            {told, send(3000, 0), send(3000, 0), read(1327)},
		"credentials, several":   {told, send(50000, 0), send(900, 0), read(40000)},
		"descriptors":            {rights, send(3000, 0), read(1327)},
		"descriptors behind":     {send(3000, 0), rights, read(1327)},
		"urgent behind":          {send(3000, 0), send(1, sys.MSG_OOB), send(10, 0), read(1327)},
		"urgent, more":           {send(3000, sys.MSG_OOB), send(10, 0), read(1327)},
		"urgent in front, more":  {send(10, sys.MSG_OOB), read(5), read(100), send(700, 0), send(700, 0), read(20)},
		"nothing of it":          {send(3000, 0), send(50000, 0), send(1, 0)},
		"credentials and urgent": {told, send(3000, 0), send(1, sys.MSG_OOB), send(3000, 0), read(20)},
	} {
		s := &sockets{t: t}
		a, b := s.pair(sys.SOCK_STREAM)
		for _, f := range steps {
			if err := f(a, b); err != nil {
				t.Fatal(name, err)
			}
		}
		want, err := unread(b)
		if err != nil {
			t.Fatal(err)
		}
		images, err := dumpTree(t, scanned(t, s.fds...))
		if err != nil {
			t.Error(name, err)
			continue
		}
		again, err := restored(t, images)
		if err != nil {
			t.Error(name, err)
			continue
		}
		if got, err := unread(again[1]); err != nil || got != want {
			t.Errorf("%s: %d bytes of the kernel's memory are taken, want %d (%v)", name, got, want, err)
		}
	}
}
