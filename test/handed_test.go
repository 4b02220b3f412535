package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"glis.dev/glis/internal/testkit"
)

// handedAnswer is how much targets/tcphanded.c sends to some before, or tries to.
const handedAnswer = 300_000

// handed is a client whose connection was handed on and is in no process.
type handed struct {
	backlogged
	answer int  // that comes before what is sent back
	shut   bool // its server has closed its direction
}

// dialHanded has a client connect, and send something.
func dialHanded(t *testing.T, port string, i int) *handed {
	t.Helper()
	host := []string{"127.0.0.1", "::1"}[i/2%2]
	conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &handed{backlogged: backlogged{conn: conn.(*net.TCPConn), closed: i%5 == 4}, shut: i%7 == 5 && i%5 != 4}
	if i%4 == 1 {
		c.answer = 1000
	}
	if err := c.send(i % 3 * 12345); err != nil {
		t.Fatal(err)
	}
	if c.closed {
		if err := c.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// finishHanded is finish for a client that may have been answered before. Of how much the
// server could send then nobody knows.
func (c *handed) finishHanded(i int) error {
	if !c.closed {
		if err := c.send(100_000); err != nil {
			return err
		}
		if err := c.conn.CloseWrite(); err != nil {
			return err
		}
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		return err
	}
	got, err := io.ReadAll(c.conn)
	if err != nil {
		return err
	}
	want := c.sent
	if c.shut {
		want = nil
	}
	before := len(got) - len(want)
	ok := before == c.answer
	if i%4 == 2 {
		ok = before > 0 && before <= handedAnswer
	}
	if !ok || string(got[before:]) != string(want) {
		return fmt.Errorf("%d bytes came back of %d, or others", len(got), len(want))
	}
	for _, b := range got[:before] {
		if b != 0 {
			return fmt.Errorf("what came first is not the answer")
		}
	}
	return nil
}

// Connections of clients outside that were handed on, and that no process has yet, go on
// wherever the message is that they are in, while the tree is away and afterwards.
func TestHanded(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	for _, how := range []string{"queue", "wait", "deep"} {
		t.Run(how, func(t *testing.T) {
			testkit.NoLeaks(t)
			p, clients := startHanded(t, how)
			if how == "wait" {
				refused(t, e, append([]string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "--network-lock", "skip"}, established...), "not supported", "do without --network-lock skip")
				testkit.Unharmed(t, p.PID)
			}
			testkit.LeaveRunning(t, e, p.PID, testkit.Program{DumpArgs: established})
			for i := range 3 {
				img := testkit.NewDir(t)
				e.Save(t, p.PID, img, established...)
				noneAt(t, clients[0].conn.RemoteAddr().(*net.TCPAddr).Port)
				for _, c := range clients {
					if !c.closed && i > 0 {
						if err := c.send(500); err != nil {
							t.Fatal(err)
						}
					}
				}
				e.Restore(t, img, established...)
			}
			finishHanded(t, p, clients)
		})
	}
}

// A dump that is killed at any moment leaves them as they were, or they go on in what it
// has saved.
func TestKilledHanded(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p, clients := startHanded(t, "wait")
	for i := range kills() {
		killQuietly(t, e, p.PID, i%2 == 0, established...)
	}
	finishHanded(t, p, clients)
}

// noneAt makes sure that the kernel has nothing more of connections at a port of a tree
// that has ended: they have died silently.
func noneAt(t *testing.T, port int) {
	t.Helper()
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		all, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(all)) {
			if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				t.Errorf("the kernel still has %s", line)
			}
		}
	}
}

func startHanded(t *testing.T, how string) (*testkit.Proc, []*handed) {
	t.Helper()
	dir := testkit.NewDir(t)
	clients := make([]*handed, 40)
	p := testkit.Start(t, dir, testkit.BuildC(t, "targets/tcphanded.c"), fmt.Sprint(len(clients)), how, dir)
	testkit.AwaitFile(t, filepath.Join(dir, "port"), p.PID)
	var port []byte
	testkit.Await(t, dir, p.PID, "its port", func() bool {
		port, _ = os.ReadFile(filepath.Join(dir, "port"))
		return len(port) > 0
	})
	for i := range clients {
		clients[i] = dialHanded(t, string(port), i)
	}
	p.AwaitAt(t, 0)
	return p, clients
}

func finishHanded(t *testing.T, p *testkit.Proc, clients []*handed) {
	t.Helper()
	p.Go(t, 0, true)
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			if err := c.finishHanded(i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	all.Wait()
	p.WaitExit(t, 0)
}
