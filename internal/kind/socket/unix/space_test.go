package unix

import (
	"math/rand"
	"testing"

	sys "golang.org/x/sys/unix"
)

// How much more fits into a queue, and whether poll(2) says that one can write, is as
// it was, however it was filled and how much of it was read.
func TestSpace(t *testing.T) {
	shared, _ := memory(t)
	for name, fill := range spaces {
		for _, typ := range []int{sys.SOCK_STREAM, sys.SOCK_SEQPACKET, sys.SOCK_DGRAM} {
			s := &sockets{t: t}
			a, b := s.pair(typ)
			if !fill(s, a, b, typ) {
				continue
			}
			k := New()
			k.UseMemory(shared)
			images, err := dumpWith(t, k, scanned(t, s.fds...))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			again, err := restored(t, images)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if want, got := s.space(a), s.space(again[0]); want != got {
				t.Errorf("%s, type %d: memory, whether one can write, and how many bytes: natively %v, restored %v", name, typ, want, got)
			}
		}
	}
}

// space returns the memory that is used, whether poll(2) says that one can write, and
// how often a little can be sent.
func (s *sockets) space(fd int) (out [4]int) {
	s.t.Helper()
	used, err := unread(fd)
	s.must(err)
	events, err := poll(fd, sys.POLLOUT)
	s.must(err)
	out[0], out[1] = int(used), int(events&sys.POLLOUT)
	for i, size := range []int{3000, 1} {
		for sys.Sendmsg(fd, make([]byte, size), nil, nil, sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL) == nil {
			out[2+i]++
		}
	}
	return out
}

// fillWith sends messages of these sizes until there is no room.
func (s *sockets) fillWith(fd int, size func() int) {
	for sys.Sendmsg(fd, make([]byte, size()), nil, nil, sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL) == nil {
	}
}

func (s *sockets) read(fd, n int) {
	s.t.Helper()
	for buf := make([]byte, n); n > 0; {
		got, _, err := sys.Recvfrom(fd, buf[:n], sys.MSG_DONTWAIT)
		s.must(err)
		n -= got
	}
}

// spaces fill a queue in different ways; false if that is nothing for this type.
var spaces = map[string]func(s *sockets, a, b, typ int) bool{
	"bytes":     func(s *sockets, a, _, _ int) bool { s.fillWith(a, func() int { return 1 }); return true },
	"thousands": func(s *sockets, a, _, _ int) bool { s.fillWith(a, func() int { return 1000 }); return true },
	"nearly": func(s *sockets, a, b, _ int) bool {
		s.fillWith(a, func() int { return 1000 })
		s.read(b, 7000)
		return true
	},
	"large": func(s *sockets, a, _, _ int) bool { s.fillWith(a, func() int { return 70000 }); return true },
	"random": func(s *sockets, a, _, _ int) bool {
		r := rand.New(rand.NewSource(1))
		s.fillWith(a, func() int { return 1 + r.Intn(9000) })
		return true
	},
	"random, and read": func(s *sockets, a, b, typ int) bool {
		r := rand.New(rand.NewSource(2))
		s.fillWith(a, func() int { return 1 + r.Intn(9000) })
		s.read(b, 20000)
		return typ == sys.SOCK_STREAM
	},
	"large, and read": func(s *sockets, a, b, typ int) bool {
		s.fillWith(a, func() int { return 70000 })
		s.read(b, 50001)
		return typ == sys.SOCK_STREAM
	},
	"from a larger buffer": func(s *sockets, a, _, _ int) bool {
		s.fillWith(a, func() int { return 1500 })
		s.set(a, sys.SO_SNDBUF, 20000)
		return true
	},
	"from a smaller buffer": func(s *sockets, a, _, typ int) bool {
		s.set(a, sys.SO_SNDBUF, 9000)
		s.fillWith(a, func() int { return 50000 })
		s.set(a, sys.SO_SNDBUF, 60000)
		return typ == sys.SOCK_STREAM
	},
	"a doubled buffer": func(s *sockets, a, b, typ int) bool {
		s.set(a, sys.SO_SNDBUF, 212992)
		s.fillWith(a, func() int { return 30000 })
		s.read(b, 30000)
		return true
	},
	"descriptors": func(s *sockets, a, b, _ int) bool {
		for sys.Sendmsg(a, make([]byte, 700), sys.UnixRights(a, b), nil, sys.MSG_DONTWAIT) == nil {
		}
		return true
	},
	"descriptors, and read": func(s *sockets, a, b, typ int) bool {
		for i := 0; sys.Sendmsg(a, make([]byte, 700+i), sys.UnixRights(a), nil, sys.MSG_DONTWAIT) == nil; i++ {
		}
		if typ == sys.SOCK_STREAM {
			buf, control := make([]byte, 100), make([]byte, 100)
			_, n, _, _, err := sys.Recvmsg(b, buf, control, 0)
			s.must(err)
			all, err := sys.ParseSocketControlMessage(control[:n])
			s.must(err)
			got, err := sys.ParseUnixRights(&all[0])
			s.must(err)
			sys.Close(got[0])
		}
		return true
	},
	"urgent": func(s *sockets, a, b, typ int) bool {
		if typ != sys.SOCK_STREAM {
			return false
		}
		for i := 0; sys.Sendmsg(a, make([]byte, 100+i), nil, nil, sys.MSG_DONTWAIT|sys.MSG_OOB) == nil; i++ {
		}
		s.read(b, 50)
		return true
	},
	"urgent, and read": func(s *sockets, a, b, typ int) bool {
		if typ != sys.SOCK_STREAM {
			return false
		}
		s.makePlaces(a, b, "abc!def!ghi?jkl!mno")
		return true
	},
	"a great many": func(s *sockets, a, b, typ int) bool {
		if typ != sys.SOCK_STREAM {
			return false
		}
		s.set(a, sys.SO_SNDBUFFORCE, 32<<20)
		r := rand.New(rand.NewSource(3))
		for range 6000 {
			s.send(a, string(make([]byte, 1+r.Intn(3000))))
		}
		s.read(b, 100)
		s.set(a, sys.SO_SNDBUFFORCE, 21<<20/2)
		return true
	},
}
