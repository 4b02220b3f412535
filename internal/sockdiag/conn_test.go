package sockdiag

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T, typ int) (a, b int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func inode(t *testing.T, fd int) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino)
}

func open(t *testing.T, netns int) *Conn {
	t.Helper()
	c, err := Open(netns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestUnixLive(t *testing.T) {
	a, b := pair(t, unix.SOCK_STREAM)
	if _, err := unix.Write(b, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(b, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	c := open(t, 0)
	const show = ShowName | ShowPeer | ShowRQLen | ShowMemInfo | ShowUID
	check := func(u *Unix) {
		t.Helper()
		if u.Ino != inode(t, a) || u.Type != unix.SOCK_STREAM || u.State != 1 || u.Peer != inode(t, b) || u.RQueue != 5 ||
			u.Shutdown != 1 || !u.HasMem || u.Mem.Sndbuf == 0 || len(u.Name) != 0 || u.UID != uint32(unix.Getuid()) {
			t.Errorf("got %+v", *u)
		}
	}
	u, err := c.Unix(inode(t, a), 0, show)
	if err != nil {
		t.Fatal(err)
	}
	check(u)
	if _, err := c.Unix(u.Ino, u.Cookie, show); err != nil {
		t.Errorf("with its cookie: %v", err)
	}
	if _, err := c.Unix(u.Ino, u.Cookie+1, show); !errors.Is(err, unix.ESTALE) {
		t.Errorf("with another cookie: %v, want ESTALE", err)
	}
	found := 0
	err = c.EachUnix(show, func(u *Unix) error {
		if u.Ino == inode(t, a) {
			found++
			check(u)
		}
		return nil
	})
	if err != nil || found != 1 {
		t.Errorf("found %d times: %v", found, err)
	}
}

// An answer outlives the next question.
func TestUnixKeeps(t *testing.T) {
	c := open(t, 0)
	for _, name := range []string{"\x00glis-one", "\x00glis-another"} {
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(s)
		if err := unix.Bind(s, &unix.SockaddrUnix{Name: name}); err != nil {
			t.Fatal(err)
		}
		u, err := c.Unix(inode(t, s), 0, ShowName)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if string(u.Name) != name {
				t.Errorf("%q has become %q", name, u.Name)
			}
		}()
	}
}

func TestUnixMissing(t *testing.T) {
	if _, err := open(t, 0).Unix(1<<32-2, 0, ShowPeer); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v, want ENOENT", err)
	}
}

// A caller that fails in the middle must not spoil the next request.
func TestEachUnixStops(t *testing.T) {
	for range 400 {
		pair(t, unix.SOCK_DGRAM)
	}
	c := open(t, 0)
	stop := errors.New("stop")
	if err := c.EachUnix(ShowPeer, func(*Unix) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want %v", err, stop)
	}
	n := 0
	if err := c.EachUnix(ShowPeer, func(*Unix) error { n++; return nil }); err != nil || n < 800 {
		t.Errorf("%d sockets after a stop: %v", n, err)
	}
}
