package sockmem

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Whoever comes and goes beside a socket, in the kernel's lists, changes nothing of it that
// counts: it would be taken for an option that is learnt just then.
func TestBeside(t *testing.T) {
	testkit.RequireRoot(t)
	r, err := OpenTCP()
	testkit.KernelMemory(t, err)
	defer r.Close()        //nolint:errcheck // only read from
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	const one = "/proc/sys/net/ipv4/tcp_child_ehash_entries" // so that all are in one list
	err = os.WriteFile(one, []byte("1"), 0o644)
	testkit.Lacks(t, "net.ipv4.tcp_child_ehash_entries", err, unix.ENOENT)
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	testkit.Here().Up(t, "lo")

	me, first := self(t), connected(t, 0)
	port, err := unix.Getsockname(first)
	must(t, err)
	read := func() (memory []byte) {
		must(t, r.Each(me, func(s Socket) error {
			if s.FD == int32(first) {
				memory = bytes.Clone(s.Sock[:r.TCP.Size4])
			}
			return nil
		}))
		return memory
	}
	before := read()
	connected(t, 0)
	connected(t, port.(*unix.SockaddrInet4).Port)
	after := read()
	if bytes.Equal(before, after) {
		t.Error("nobody is beside it")
	}
	for _, s := range r.TCP.Moving {
		clear(before[s.At : s.At+s.Size])
		clear(after[s.At : s.At+s.Size])
	}
	for i := range before {
		if before[i] != after[i] {
			t.Errorf("byte %d of a socket, %#x, is %#x with others beside it", i, before[i], after[i])
		}
	}
}

// connected returns an end of a connection that nobody has the other one of.
func connected(t *testing.T, port int) int {
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(n) })
	must(t, unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1))
	must(t, unix.Bind(n, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Connect(n, &unix.SockaddrInet4{Port: 1 + port%2, Addr: [4]byte{127, 0, 0, 1}}))
	return n
}
