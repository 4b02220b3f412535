package test

import (
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A dump that is killed, or told to end (as --timeout does), at any moment leaves every queue
// as it was, with all that is in it, and every connection that waits.
func TestKilledQueues(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	for _, x := range targets {
		switch x.name {
		case "unixdgram", "unixqueue", "unixwaiting", "unixstandin", "unixlocked", "unixunheld", "unixhanging", "unixattached", "tcpsent":
		default:
			continue
		}
		t.Run(x.name, func(t *testing.T) {
			p := x.program(t)
			p.Generations = 1
			testkit.Compared(t, p, func(t *testing.T, proc *testkit.Proc, n int) {
				begun := time.Now()
				e.Save(t, proc.PID, testkit.NewDir(t), slices.Concat(x.dump, []string{"--leave-running"})...)
				within := time.Since(begun) // to the end of what is made for what only messages have
				for i := range kills() {
					sig := unix.SIGKILL
					if i%4 > 1 {
						sig = unix.SIGTERM
					}
					endQuietly(t, e, proc.PID, rand.N(within), sig, i%2 == 0, x.dump...)
				}
			})
		})
	}
}

// killQuietly kills a dump; what is complete then is restored.
func killQuietly(t *testing.T, e testkit.Engine, pid int, running bool, flags ...string) {
	t.Helper()
	endQuietly(t, e, pid, rand.N(2*longest), unix.SIGKILL, running, flags...)
}

// endQuietly is killQuietly after a time, by a signal.
func endQuietly(t *testing.T, e testkit.Engine, pid int, after time.Duration, sig unix.Signal, running bool, flags ...string) {
	t.Helper()
	img := testkit.NewDir(t)
	args := append([]string{"dump", "-t", strconv.Itoa(pid), "-D", img}, flags...)
	if running {
		args = append(args, "--leave-running")
	}
	tree := testkit.Tree(pid)
	killedRun(t, e, after, sig, args...)
	if _, err := os.Stat(filepath.Join(img, "inventory.img")); err == nil && !running {
		testkit.Reap(t, tree)
		e.Restore(t, img, flags...)
	}
	testkit.Unharmed(t, pid)
}

// Clients that flood a server by TCP, and ask it by UDP, don't notice that its dumps
// are killed at any moment, nor that some are complete, and restored.
func TestKilledFlood(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p, port := startServer(t, strconv.Itoa(100<<10))
	var all []*flood
	for i, host := range []string{"127.0.0.1", "::1"} {
		all = append(all, startFlood(t, testkit.Here(), net.JoinHostPort(host, port), i+1))
	}
	a := &asker{to: net.JoinHostPort("127.0.0.1", port)}
	c, err := net.Dial("udp", a.to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a.conn = c.(*net.UDPConn)
	for i := range kills() {
		awaitFlow(t, p, all)
		killQuietly(t, e, p.PID, i%2 == 0, established...)
		a.ask(t)
	}
	awaitFlow(t, p, all)
	for _, f := range all {
		f.finish(t, p.Dir)
	}
}

// Nor does it harm connections that nobody has accepted yet: each is there when the
// dump was killed, or was complete and is restored, with all that was sent over it.
func TestKilledBacklog(t *testing.T) {
	for _, how := range []string{"alone", "handed"} {
		t.Run(how, func(t *testing.T) { killedBacklog(t, how) })
	}
}

func killedBacklog(t *testing.T, how string) {
	t.Helper()
	e := glisOnly(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	clients := make([]*backlogged, 40)
	p := testkit.Start(t, dir, testkit.BuildC(t, "targets/backlog.c"), strconv.Itoa(len(clients)), how, dir)
	p.AwaitAt(t, 0)
	for i := range clients {
		clients[i] = backlog(t, dir, i)
	}
	for i := range kills() {
		killQuietly(t, e, p.PID, i%2 == 0, established...)
	}
	p.Go(t, 0, true)
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			if err := c.finish(); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	all.Wait()
	p.WaitExit(t, 0)
}
