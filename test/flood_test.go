package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"glis.dev/glis/internal/testkit"
)

// roundsEnv is how many dumps and restores a flood goes through; without it, few.
const roundsEnv = "GLIS_ROUNDS"

func rounds() int {
	if n, err := strconv.Atoi(os.Getenv(roundsEnv)); err == nil && n > 0 {
		return n
	}
	return 3
}

// flood is a client of targets/flood.c, which sends and gets as much as it can.
type flood struct {
	number           int
	conn             *net.TCPConn
	stop             atomic.Bool
	sent, got        atomic.Uint64
	sentSum, gotSum  uint64
	sending, getting sync.WaitGroup
	err              [2]error
}

// startServer starts targets/flood.c, and returns its port.
func startServer(t testing.TB, args ...string) (p *testkit.Proc, port string) {
	t.Helper()
	p = testkit.Start(t, testkit.NewDir(t), append([]string{testkit.BuildC(t, "targets/flood.c")}, args...)...)
	return p, p.Told(t, "port")
}

// startFlood connects a client from a namespace.
func startFlood(t testing.TB, from *testkit.Net, address string, number int) *flood {
	t.Helper()
	c, err := from.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f := &flood{number: number, conn: c.(*net.TCPConn)}
	f.sending.Go(func() { f.err[0] = f.send() })
	f.getting.Go(func() { f.err[1] = f.get() })
	return f
}

func sum(s uint64, b []byte) uint64 {
	for _, x := range b {
		s = s*31 + uint64(x)
	}
	return s
}

func (f *flood) send() error {
	b := make([]byte, 32<<10)
	for !f.stop.Load() {
		for i := range b {
			b[i] = byte((f.sent.Load() + uint64(i)) * 2654435761 >> 20)
		}
		if f.sent.Load() == 0 {
			b[0] = byte(f.number)
		}
		n, err := f.conn.Write(b)
		f.sentSum = sum(f.sentSum, b[:n])
		f.sent.Add(uint64(n))
		if err != nil {
			return err
		}
	}
	return f.conn.CloseWrite()
}

func (f *flood) get() error {
	b := make([]byte, 64<<10)
	for {
		n, err := f.conn.Read(b)
		f.gotSum = sum(f.gotSum, b[:n])
		f.got.Add(uint64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// finish ends it, and compares what both ends have sent and got.
func (f *flood) finish(t testing.TB, dir string) {
	t.Helper()
	f.stop.Store(true)
	f.sending.Wait()
	f.getting.Wait()
	if err := errors.Join(f.err[:]...); err != nil {
		t.Fatalf("client %d: %v", f.number, err)
	}
	name := filepath.Join(dir, fmt.Sprintf("sum.%d", f.number))
	testkit.AwaitFile(t, name, 0)
	server, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d %x %d %x", f.got.Load(), f.gotSum, f.sent.Load(), f.sentSum)
	if string(server) != want {
		t.Errorf("client %d: the server sent and got %s, the client got and sent %s", f.number, server, want)
	}
}

// awaitFlow waits until all of them go on in both directions.
func awaitFlow(t testing.TB, p *testkit.Proc, all []*flood) {
	t.Helper()
	type so struct{ sent, got uint64 }
	before := make([]so, len(all))
	for i, f := range all {
		before[i] = so{f.sent.Load(), f.got.Load()}
	}
	end := time.Now().Add(testkit.Patience)
	for i, f := range all {
		for f.sent.Load() == before[i].sent || f.got.Load() == before[i].got {
			if text, _ := os.ReadFile(filepath.Join(p.Dir, "error")); len(text) > 0 || time.Now().After(end) {
				t.Fatalf("client %d does not go on after %+v: %+v; the server says %q", f.number, before[i], so{f.sent.Load(), f.got.Load()}, text)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// Peers in another network namespace that flood a server, and are flooded by it,
// don't notice that it is dumped and restored again and again: every byte arrives
// once, in its place, over a good wire and over a bad one.
func TestFlood(t *testing.T) {
	e := glisOnly(t)
	for _, x := range []struct {
		name string
		join func(t *testing.T, a *testkit.Net, inA string, b *testkit.Net, inB string)
	}{
		{"good wire", func(t *testing.T, a *testkit.Net, inA string, b *testkit.Net, inB string) {
			testkit.Veth(t, a, inA, b, inB)
		}},
		{"bad wire", func(t *testing.T, a *testkit.Net, inA string, b *testkit.Net, inB string) {
			testkit.Wire(t, a, inA, b, inB, testkit.Faults{Lost: 10, Twice: 10, Delay: 2 * time.Millisecond})
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			here, there := testkit.Here(), testkit.NewNet(t)
			x.join(t, here, "glis-a", there, "glis-b")
			here.Address(t, "glis-a", "10.78.0.1/24")
			here.Address(t, "glis-a", "fd78::a/64")
			there.Address(t, "glis-b", "10.78.0.2/24")
			there.Address(t, "glis-b", "fd78::b/64")
			p, port := startServer(t, strconv.Itoa(1<<20))
			var all []*flood
			for i, host := range []string{"10.78.0.1", "fd78::a", "10.78.0.1", "fd78::a"} {
				all = append(all, startFlood(t, there, net.JoinHostPort(host, port), i+1))
			}
			for range rounds() {
				awaitFlow(t, p, all)
				img := testkit.NewDir(t)
				e.Save(t, p.PID, img, established...)
				e.Restore(t, img, established...)
				os.RemoveAll(img)
			}
			awaitFlow(t, p, all)
			for _, f := range all {
				f.finish(t, p.Dir)
			}
		})
	}
}
