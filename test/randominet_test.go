package test

import (
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Random sequences of calls on sockets of TCP and UDP, by several tasks and, every
// second time, one that isn't dumped, in a network namespace of their own: what they
// see must be what they see without.
func TestRandomInet(t *testing.T) {
	kernelMemory(t)
	path := testkit.BuildC(t, "targets/inetrandom.c")
	randomly(t, 1, func(seed int) testkit.Program {
		runtime.LockOSThread() // never unlocked: the namespace is this thread's
		p := testkit.Program{Argv: []string{path, strconv.Itoa(seed), strconv.Itoa(40 + seed%120), strconv.Itoa(seed % 2)}}
		p.Begin = func(t *testing.T) {
			mustDo(t, unix.Unshare(unix.CLONE_NEWNET))
			testkit.Here().Up(t, "lo")
			mustDo(t, os.WriteFile("/proc/sys/net/ipv6/icmp/ratelimit", []byte("0"), 0)) // else some senders are not told
		}
		return p
	}, established...)
}
