package test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"glis.dev/glis/internal/testkit"
)

// Clients outside of the tree whom their server has not accepted when it is
// saved: they have sent something, or all, and get their answers from the
// restored one, be there one listener or several that share the port, or is it only in a
// message of a unix connection that nobody has accepted.
func TestBacklog(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	bin := testkit.BuildC(t, "targets/backlog.c")
	for _, how := range []string{"alone", "share", "defer", "defer6", "handed", "handed and defer", "changed"} {
		t.Run(how, func(t *testing.T) {
			handed := strings.HasPrefix(how, "handed")
			if handed {
				if !e.Glis {
					t.Skip("what is only in such messages is refused")
				}
				kernelMemory(t)
			}
			if how == "changed" && !e.Glis {
				t.Skip("who waits gets the options that its listener was given later")
			}
			testkit.NoLeaks(t)
			dir := testkit.NewDir(t)
			clients := make([]*backlogged, 40)
			p := testkit.Start(t, dir, bin, fmt.Sprint(len(clients)), how, dir)
			p.AwaitAt(t, 0)
			for i := range clients {
				clients[i] = backlog(t, dir, i)
			}
			if handed {
				testkit.LeaveRunning(t, e, p.PID, testkit.Program{DumpArgs: established})
			}
			for range 3 {
				img := testkit.NewDir(t)
				e.Save(t, p.PID, img, established...)
				e.Restore(t, img, established...)
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
		})
	}
}

// backlogged is a client that waits to be accepted.
type backlogged struct {
	conn   *net.TCPConn
	sent   []byte
	closed bool
}

func backlog(t *testing.T, dir string, i int) *backlogged {
	t.Helper()
	port, err := os.ReadFile(filepath.Join(dir, "port"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", string(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &backlogged{conn: conn.(*net.TCPConn), closed: i%3 == 0}
	// As much as fits without a reader.
	if err := c.send(i % 4 * 12345); err != nil {
		t.Fatal(err)
	}
	if c.closed {
		if err := c.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *backlogged) send(n int) error {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	c.sent = append(c.sent, b...)
	_, err := c.conn.Write(b)
	return err
}

// finish sends what is left, and checks that all of it comes back.
func (c *backlogged) finish() error {
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
	if !bytes.Equal(got, c.sent) {
		return fmt.Errorf("%d bytes came back of %d, or others", len(got), len(c.sent))
	}
	return nil
}
