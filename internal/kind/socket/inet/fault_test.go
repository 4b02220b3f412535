package inet

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// disconnect has a socket be connected to nobody.
func disconnect(t testing.TB, d *fd.FD) {
	t.Helper()
	must(t, linux.Connect(d.Int(), binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC)))
}

// faults bring about sockets that were disconnected, and at which an error waits.
var faults = []struct {
	name  string
	err   unix.Errno
	fault func(t *testing.T, s sort, ip string) *fd.FD
	free  bool // the port that it tells, since the kernel gave it that
}{
	{"reset by itself", unix.ECONNRESET, func(t *testing.T, s sort, ip string) *fd.FD {
		return paired(t, s, ip).ends[0]
	}, true},
	{"accepted", unix.ECONNRESET, func(t *testing.T, s sort, ip string) *fd.FD {
		return paired(t, s, ip).ends[1]
	}, false},
	{"reset by its peer, after the end", unix.EPIPE, func(t *testing.T, s sort, ip string) *fd.FD {
		p := paired(t, s, ip)
		must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR))
		p.await(t, 1, tcp.CloseWait)
		abort(t, p.ends[0])
		p.await(t, 1, tcp.Closed)
		return p.ends[1]
	}, false},
	{"refused", unix.ECONNREFUSED, func(t *testing.T, s sort, _ string) *fd.FD { return declined(t, s) }, true},
	{"in repair mode", unix.ECONNABORTED, func(t *testing.T, s sort, ip string) *fd.FD {
		d := s.bound(t, ip)
		must(t, tcp.Repair().Set(d.Int()))
		disconnect(t, d)
		must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP))
		return d
	}, false},
	{"bound", unix.ECONNRESET, func(t *testing.T, s sort, ip string) *fd.FD {
		c, l := s.bound(t, ip), s.bound(t, ip)
		must(t, unix.Listen(l.Int(), 1))
		to, err := unix.Getsockname(l.Int())
		must(t, err)
		must(t, unix.Connect(c.Int(), to))
		return c
	}, false},
}

// An error that nobody has read waits on at a socket that is disconnected, also when it
// listens.
func TestFault(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	for _, s := range []sort{tcp4, tcp6} {
		ip := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family]
		for _, x := range faults {
			for _, listens := range []bool{false, true} {
				name := x.name
				if listens {
					name += ", listening"
				}
				t.Run(name+" "+ip, func(t *testing.T) {
					d := x.fault(t, s, ip)
					disconnect(t, d)
					// Unless it is set it tells of the last connection.
					must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1000))
					if listens {
						must(t, unix.Listen(d.Int(), 3))
					}
					// Whom the kernel gave its port has given that up: somebody else may have it by now.
					n := sameBut(t, s, func(was, is *seen) {
						if x.free && !listens {
							was.At = is.At
						}
					}, d)[0]
					code, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ERROR)
					if must(t, err); unix.Errno(code) != x.err {
						t.Errorf("error %v, want %v", unix.Errno(code), x.err)
					}
					if listens {
						client(t, s, n)
						_, _, err = unix.Accept(n)
					} else {
						l := s.bound(t, ip)
						must(t, unix.Listen(l.Int(), 1))
						to, serr := unix.Getsockname(l.Int())
						must(t, serr)
						if err = unix.Connect(n, to); errors.Is(err, unix.EINPROGRESS) {
							err = nil
						}
					}
					must(t, err)
				})
			}
		}
	}
}

// Others than are known to come again are refused, and all where they aren't known.
func TestFaultOther(t *testing.T) {
	d := declined(t, tcp4)
	disconnect(t, d)
	_, unknown := New().memory()
	if unknown != nil {
		refused(t, &options.Dump{}, d.Int(), "isn't known")
	}
	l := &look{kind: New(), file: &scan.File{Task: &scan.Task{}}, fd: d}
	if err := l.hasFault(unix.ETIMEDOUT); !errors.Is(err, kind.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// Images may have an error that nobody could make again.
func TestFaultHostile(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	d := declined(t, tcp4)
	disconnect(t, d)
	for want, failure := range map[bool]unix.Errno{true: unix.EPIPE, false: unix.EIO} {
		in, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		in[of(extra.Sockets)][0].Message.(*extra.SocketEntry).Error = proto.Uint32(uint32(failure))
		if _, err := planned(in); (err == nil) != want {
			t.Errorf("%v: %v", failure, err)
		}
	}
}
