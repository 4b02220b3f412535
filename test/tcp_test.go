package test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"glis.dev/glis/internal/testkit"
)

// client sends a stream of numbers to an echo server and checks that each comes
// back, in order.
type client struct {
	conn   *net.TCPConn
	piece  int // bytes sent at once
	stop   atomic.Bool
	sent   atomic.Uint64 // numbers
	echoed atomic.Uint64
	done   sync.WaitGroup
	err    [2]error
}

func dial(t testing.TB, address string, piece int) *client {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return talk(t, c, piece)
}

// talk is dial over a connection that is there.
func talk(t testing.TB, c net.Conn, piece int) *client {
	t.Cleanup(func() { c.Close() })
	k := &client{conn: c.(*net.TCPConn), piece: piece}
	k.done.Add(2)
	go func() { defer k.done.Done(); k.err[0] = k.send() }()
	go func() { defer k.done.Done(); k.err[1] = k.receive() }()
	return k
}

// send sends until told to stop. A client with small pieces waits for each to
// come back; others send as much as there is room for.
func (c *client) send() error {
	n := uint64(0)
	b := make([]byte, c.piece)
	for !c.stop.Load() {
		for i := 0; i < len(b); i += 8 {
			binary.BigEndian.PutUint64(b[i:], n)
			n++
		}
		if _, err := c.conn.Write(b); err != nil {
			return fmt.Errorf("after %d numbers: %w", n, err)
		}
		c.sent.Store(n)
		for c.piece < 1000 && c.echoed.Load() < n && !c.stop.Load() {
			time.Sleep(time.Millisecond)
		}
	}
	return c.conn.CloseWrite()
}

func (c *client) receive() error {
	b := make([]byte, 64<<10)
	for n, have := uint64(0), 0; ; {
		k, err := c.conn.Read(b[have:])
		have += k
		i := 0
		for ; i+8 <= have; i += 8 {
			if got := binary.BigEndian.Uint64(b[i:]); got != n {
				return fmt.Errorf("got number %d, want %d", got, n)
			}
			n++
		}
		have = copy(b, b[i:have])
		c.echoed.Store(n)
		if err == io.EOF && have == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d numbers: %w", n, err)
		}
	}
}

// awaitMore waits until every client has got something that wasn't there yet.
func awaitMore(t testing.TB, dir string, clients []*client) {
	t.Helper()
	before := make([]uint64, len(clients))
	for i, c := range clients {
		before[i] = c.echoed.Load()
	}
	end := time.Now().Add(testkit.Patience)
	for i, c := range clients {
		for c.echoed.Load() == before[i] {
			if text, _ := os.ReadFile(filepath.Join(dir, "error")); len(text) > 0 || time.Now().After(end) {
				t.Fatalf("client %d of %d gets nothing after %d numbers; the server says %q", i, len(clients), before[i], text)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// Clients outside of the tree that don't notice that their server is away.
func TestClientsOutside(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	c := testkit.BuildC(t, "targets/echo.c")
	for _, x := range []struct {
		name string
		host string
		argv []string
	}{
		{"IPv4", "127.0.0.1", []string{c}},
		{"IPv6", "::1", []string{c, "6"}},
		{"Go", "127.0.0.1", []string{testkit.BuildGo(t, "./targets/goecho")}},
	} {
		t.Run(x.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			dir := testkit.NewDir(t)
			p := testkit.Start(t, dir, x.argv...)
			clients := dialMany(t, p, x.host)
			for range 3 {
				img := testkit.NewDir(t)
				e.Save(t, p.PID, img, established...)
				e.Restore(t, img, established...)
				awaitMore(t, dir, clients)
			}
			e.Save(t, p.PID, testkit.NewDir(t), "--tcp-established", "--leave-running")
			awaitMore(t, dir, clients)
			finish(t, clients)
		})
	}
}

// With --tcp-close the server goes on without its clients.
func TestTCPClose(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/echo.c"))
	clients := dialMany(t, p, "127.0.0.1")
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--tcp-close")
	for _, c := range clients {
		c.stop.Store(true)
		c.done.Wait() // each hears that its server is gone
	}
	e.Restore(t, img, "--tcp-close")
	c := dial(t, clients[0].conn.RemoteAddr().String(), 64)
	awaitMore(t, p.Dir, []*client{c})
	finish(t, []*client{c})
}

// dialMany connects clients to a server, when it has told its port; some of
// them flood it.
func dialMany(t testing.TB, p *testkit.Proc, host string) []*client {
	t.Helper()
	port := p.Told(t, "port")
	var clients []*client
	for i := range 200 {
		piece := 64
		if i < 10 {
			piece = 32 << 10
		}
		clients = append(clients, dial(t, net.JoinHostPort(host, port), piece))
	}
	awaitMore(t, p.Dir, clients)
	return clients
}

// finish lets the clients end, and checks that nothing was lost.
func finish(t testing.TB, clients []*client) {
	t.Helper()
	for _, c := range clients {
		c.stop.Store(true)
	}
	for i, c := range clients {
		c.done.Wait()
		if c.err[0] != nil || c.err[1] != nil {
			t.Errorf("client %d: %v, %v", i, c.err[0], c.err[1])
		}
		if c.echoed.Load() != c.sent.Load() {
			t.Errorf("client %d: %d of %d numbers came back", i, c.echoed.Load(), c.sent.Load())
		}
	}
}

// pacing is what sets the congestion window of a connection (struct_ops, with links).
func pacing(t testing.TB) {
	since := testkit.Version{Major: 6, Minor: 4}
	testkit.Require(t, testkit.Feature{Name: "congestion controls that are programs of BPF", Since: since, Probe: func() error {
		if testkit.Kernel(t).Less(since) {
			return errors.ErrUnsupported
		}
		return nil
	}})
	kernelMemory(t)
}
