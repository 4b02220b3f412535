package test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// mostMemory is how much memory of its own the engine has at most, in KiB, whatever it
// dumps or restores.
const mostMemory = 64 << 10

// anonymous returns how much memory of its own a process has, in KiB, see
// proc_pid_status(5); not ok once it has ended.
func anonymous(pid int) (kib int64, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	_, rest, ok := bytes.Cut(b, []byte("RssAnon:"))
	if f := bytes.Fields(rest); ok && len(f) > 0 {
		kib, err = strconv.ParseInt(string(f[0]), 10, 64)
	}
	return kib, ok && err == nil
}

// peak looks at all runs of an engine, until they end. Nobody tells how much it was at
// most, so it is looked at again and again.
func peak(e *testkit.Engine) *atomic.Int64 {
	var most atomic.Int64
	e.Started = func(pid int) {
		go func() {
			for {
				kib, ok := anonymous(pid)
				if !ok {
					return
				}
				most.Store(max(most.Load(), kib))
				time.Sleep(time.Millisecond)
			}
		}()
	}
	return &most
}

// The engine's own memory stays below what it promises, for dumps and restores of many
// threads, processes, connections, pairs of sockets, files, deleted ones and listeners, for connections no two
// of which are alike, and for 120 MiB in queues: so many that it took more when it kept what it no longer needs, or had everything of each at hand.
func TestEngineMemory(t *testing.T) {
	for _, c := range []struct {
		what string
		many int
	}{{"threads", 8000}, {"processes", 2000}, {"connections", min(9900, fileLimit(t)/2-50)}, {"exchanges", min(9900, fileLimit(t)/2-50)}, {"pairs", 20_000}, {"queues", 120}, {"files", 60_000}, {"ghosts", 9900}, {"listeners", 19_800}, {"unlike", 18_000}} {
		t.Run(c.what, func(t *testing.T) {
			e := glisOnly(t)
			testkit.NoLeaks(t)
			dir := testkit.NewDir(t)
			p := testkit.Start(t, dir, testkit.BuildC(t, "targets/many.c"), c.what, strconv.Itoa(c.many), dir)
			p.AwaitAt(t, 0)
			img := testkit.NewDir(t)
			for _, step := range []struct {
				name string
				run  func()
			}{
				{"dump", func() { e.Save(t, p.PID, img, established...) }},
				{"restore", func() { e.Restore(t, img, established...) }},
			} {
				most := peak(&e)
				step.run()
				t.Logf("%s: %d KiB", step.name, most.Load())
				if most.Load() > mostMemory || most.Load() == 0 {
					t.Errorf("%s of %d %s: the engine had up to %d KiB, %d are promised", step.name, c.many, c.what, most.Load(), mostMemory)
				}
			}
			p.Go(t, 0, true)
			p.WaitExit(t, 0)
		})
	}
}

// fileLimit is how many descriptors a process may have at most.
func fileLimit(t testing.TB) int {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	return int(min(l.Max, 1<<30))
}
