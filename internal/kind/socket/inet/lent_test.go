package inet

import (
	"encoding/binary"
	"errors"
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
