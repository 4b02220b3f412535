package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"glis.dev/glis/internal/testkit"
)

// generationsEnv is how often a server with clients is saved and restored.
const generationsEnv = "GLIS_GENERATIONS"

func generations() int {
	if n, err := strconv.Atoi(os.Getenv(generationsEnv)); err == nil {
		return n
	}
	return 3
}

// patient is how long a client waits for an answer.
var patient = testkit.Patience

// talker is a client that asks one thing after the other, and checks answers.
type talker struct {
	ask  func(n uint64) error // the nth question, and its answer
	n    atomic.Uint64        // answers so far
	gone atomic.Bool          // it has ended, with err
	err  error
}

// crowd is all clients of one server.
type crowd struct {
	all     []*talker
	stop    atomic.Bool
	running sync.WaitGroup
}

// join adds a client that begins to talk.
func (c *crowd) join(ask func(n uint64) error) {
	k := &talker{ask: ask}
	c.all = append(c.all, k)
	c.running.Go(func() {
		defer k.gone.Store(true)
		for k.err == nil && !c.stop.Load() {
			if k.err = k.ask(k.n.Load()); k.err == nil {
				k.n.Add(1)
			}
		}
	})
}

// awaitAnswers waits until every client has had more of them.
func (c *crowd) awaitAnswers(t testing.TB, more uint64) {
	t.Helper()
	want := make([]uint64, len(c.all))
	for i, k := range c.all {
		want[i] = k.n.Load() + more
	}
	for i, k := range c.all {
		for end := time.Now().Add(patient); k.n.Load() < want[i]; time.Sleep(time.Millisecond) {
			if k.gone.Load() {
				t.Fatalf("client %d after %d answers: %v", i, k.n.Load(), k.err)
			}
			if time.Now().After(end) {
				t.Fatalf("client %d gets nothing after %d answers", i, k.n.Load())
			}
		}
	}
}

// leave lets the clients end, and tells what went wrong.
func (c *crowd) leave(t testing.TB) {
	t.Helper()
	c.stop.Store(true)
	c.running.Wait()
	for i, k := range c.all {
		if k.err != nil {
			t.Errorf("client %d after %d answers: %v", i, k.n.Load(), k.err)
		}
	}
}

// outlive saves and restores a server, generation after generation, while its
// clients talk.
func (c *crowd) outlive(t *testing.T, e testkit.Engine, p *testkit.Proc) {
	t.Helper()
	t.Cleanup(func() { c.leave(t) })
	c.awaitAnswers(t, 3)
	for range generations() {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img, established...)
		e.Restore(t, img, established...)
		testkit.Unharmed(t, p.PID)
		c.awaitAnswers(t, 3)
		os.RemoveAll(img)
	}
}

// The clients of a redis server, which send before answers have come, never
// notice that it is away.
func TestRedisClients(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	server := testkit.RequireProgram(t, "redis-server", "redis-server")
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	addr := freeAddress(t)
	_, port, _ := net.SplitHostPort(addr)
	sock := filepath.Join(dir, "redis.sock") // is there when the port is
	p := testkit.Start(t, dir, server, "--bind", "127.0.0.1", "--port", port, "--unixsocket", sock,
		"--save", "", "--dir", dir, "--logfile", "log")
	testkit.AwaitFile(t, sock, p.PID)
	c := &crowd{}
	for i := range 20 {
		c.join(redisClient(t, addr, i))
	}
	c.outlive(t, e, p)
}

// freeAddress returns one that nobody listens at.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// pipelined is how many questions a redis client sends at once.
const pipelined = 10

// redisClient counts in the server, and has it keep a text of growing size;
// what comes back tells whether anything was lost, or came twice.
func redisClient(t testing.TB, addr string, i int) func(n uint64) error {
	t.Helper()
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	in := bufio.NewReader(conn)
	return func(n uint64) error {
		var ask, want strings.Builder
		for k := n * pipelined; k < (n+1)*pipelined; k++ {
			text := strings.Repeat(strconv.FormatUint(k, 10)+".", int(k%500)+1)
			fmt.Fprintf(&ask, "INCR count%d\r\nSET text%d %s\r\nGET text%d\r\n", i, i, text, i)
			fmt.Fprintf(&want, ":%d\r\n+OK\r\n$%d\r\n%s\r\n", k+1, len(text), text)
		}
		if err := conn.SetDeadline(time.Now().Add(patient)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, ask.String()); err != nil {
			return err
		}
		got := make([]byte, want.Len())
		if _, err := io.ReadFull(in, got); err != nil {
			return err
		}
		if string(got) != want.String() {
			return fmt.Errorf("got %.200q, want %.200q", got, want.String())
		}
		return nil
	}
}

// The clients of a web server in Go keep their connections.
func TestWebClients(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildGo(t, "./targets/gohttp"))
	port := p.Told(t, "port")
	c := &crowd{}
	for range 20 {
		c.join(webClient(t, "127.0.0.1:"+port))
	}
	c.outlive(t, e, p)
}

// webClient asks on one connection, and makes no other: http.Client does without a
// word, also when its own goroutines had to wait for a CPU for 50 ms. The count tells
// that the server has no other one, either.
func webClient(t testing.TB, addr string) func(n uint64) error {
	t.Helper()
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	in := bufio.NewReader(conn)
	return func(n uint64) error {
		question := "/" + strconv.FormatUint(n*n, 10)
		r, err := http.NewRequest(http.MethodGet, "http://"+addr+question, nil)
		if err != nil {
			return err
		}
		if err := conn.SetDeadline(time.Now().Add(patient)); err != nil {
			return err
		}
		if err := r.Write(conn); err != nil {
			return err
		}
		answer, err := http.ReadResponse(in, r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		got, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("%d %s", n, question); string(got) != want || answer.Close {
			return fmt.Errorf("got %q, want %q; it ends the connection: %v", got, want, answer.Close)
		}
		return nil
	}
}
