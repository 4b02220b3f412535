package kmem_test

import (
	"testing"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/bpf/bpftest"
	"glis.dev/glis/internal/kmem"
)

// The part of a socket that is about IPv6 is where the kernel looks for it: at the end, before
// Linux 6.6, and struct udp6_sock is padded there.
func TestInet6(t *testing.T) {
	for release, want := range map[string]int{"6.1": 1344 - 160, "6.12": 1152} {
		x, err := bpf.Parse(bpftest.Kernel(t, release))
		if err != nil {
			t.Fatal(err)
		}
		found, err := kmem.Find(x, []string{"udp6_sock.inet6", "?tcp6_sock.inet6"})
		if err != nil || found["udp6_sock.inet6"].At != want {
			t.Errorf("Linux %s: at %d, want %d (%v)", release, found["udp6_sock.inet6"].At, want, err)
		}
	}
}
