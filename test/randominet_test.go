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
	e := glisOnly(t)
	kernelMemory(t)
	path := testkit.BuildC(t, "targets/inetrandom.c")
	from, to := seeds(t)
	for seed := from; seed <= to; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			runtime.LockOSThread() // never unlocked
			p := testkit.Program{Argv: []string{path, strconv.Itoa(seed), strconv.Itoa(40 + seed%120), strconv.Itoa(seed % 2)}, Generations: 3}
			p.Begin = func(t *testing.T) {
				mustDo(t, unix.Unshare(unix.CLONE_NEWNET))
				testkit.Here().Up(t, "lo")
				mustDo(t, os.WriteFile("/proc/sys/net/ipv6/icmp/ratelimit", []byte("0"), 0)) // else some senders are not told
			}
			testkit.Compared(t, p, func(t *testing.T, proc *testkit.Proc, n int) {
				saveRandom(t, e, proc, (seed+n)%3 == 0, established...)
			})
		})
	}
}
