package inet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// disconnected returns the address that a socket has once it is disconnected;
// without a port if that isn't its own.
func disconnected(t *testing.T, n int) address {
	t.Helper()
	must(t, linux.Connect(n, binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC)))
	sa, err := unix.Getsockname(n)
	must(t, err)
	return decode(sa)
}

// A disconnected socket has what it was bound to, and nothing else.
func TestLent(t *testing.T) {
	for _, s := range []sort{udp4, udp6} {
		all, own := "0.0.0.0", "127.0.0.1"
		if s.family == unix.AF_INET6 {
			all, own = "::", "::1"
		}
		for name, make := range map[string]func(t *testing.T) *fd.FD{
			"unbound": func(t *testing.T) *fd.FD { return s.make(t) },
			"port":    func(t *testing.T) *fd.FD { return s.bound(t, all) },
			"address": func(t *testing.T) *fd.FD { return s.bound(t, own) },
		} {
			t.Run(s.String()+" "+name, func(t *testing.T) {
				d := make(t)
				connect(s)(t, d)
				sa, err := unix.Getsockname(d.Int())
				must(t, err)
				in, err := dumped(t, &options.Dump{}, d.Int())
				must(t, err)
				if in[of(extra.Sockets)] == nil && name != "address" {
					testkit.KernelMemory(t, errors.New("what connect(2) gave it isn't known"))
				}
				want := disconnected(t, d.Int())
				must(t, d.Close())
				fds := restored(t, in)
				again, err := unix.Getsockname(fds[1])
				must(t, err)
				if decode(again) != decode(sa) {
					t.Errorf("at %v, want %v", decode(again), decode(sa))
				}
				got := disconnected(t, fds[1])
				if name == "address" && os.Getenv(bpf.Off) != "" {
					testkit.KernelMemory(t, errors.New("that connect(2) gave it its port isn't known"))
				}
				if got != want {
					t.Errorf("disconnected at %v, want %v", got, want)
				}
			})
		}
	}
}

// A socket of IPv6 that was connected to one peer, and then to one of IPv4, keeps the
// address that the first one gave it.
func TestLentElsewhere(t *testing.T) {
	d, to := udp6.make(t), udp4.bound(t, "127.0.0.1")
	connect(udp6)(t, d)
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	sa, err := unix.Getsockname(to.Int())
	must(t, err)
	peer := &unix.SockaddrInet6{Port: int(decode(sa).port), Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	must(t, unix.Connect(d.Int(), peer))
	in, err := dumped(t, &options.Dump{}, d.Int())
	must(t, err)
	if in[of(extra.Sockets)] == nil {
		testkit.KernelMemory(t, errors.New("what connect(2) gave it isn't known"))
	}
	must(t, d.Close())
	fds := restored(t, in)
	again, err := unix.Getsockname(fds[1])
	must(t, err)
	if decode(again) != decode(at) {
		t.Errorf("at %v, want %v", decode(again), decode(at))
	}
	must(t, unix.Send(fds[1], []byte("hello"), 0))
	var b [9]byte
	n, _, err := unix.Recvfrom(to.Int(), b[:], 0)
	must(t, err)
	if string(b[:n]) != "hello" {
		t.Errorf("got %q", b[:n])
	}
}
