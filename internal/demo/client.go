package demo

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// pause keeps the demonstration from being about the speed of messages.
func pause() { time.Sleep(5 * time.Millisecond) }

// clients are the other ends of the server's connections. They stay where they
// are, and know nothing of what happens to it.
type clients struct {
	conns   []net.Conn
	counts  []atomic.Uint64 // messages that came back, by connection
	failed  []error
	stop    atomic.Bool
	running sync.WaitGroup
	control net.Conn
}

// connect opens the connections to a server.
func connect(addr string, n int) (*clients, error) {
	c := &clients{counts: make([]atomic.Uint64, n), failed: make([]error, n)}
	var err error
	if c.control, err = net.Dial("tcp4", addr); err != nil {
		return nil, err
	}
	for range n {
		conn, err := net.Dial("tcp4", addr)
		if err != nil {
			return c, err
		}
		c.conns = append(c.conns, conn)
	}
	return c, nil
}

// start lets all clients talk.
func (c *clients) start() {
	for i := range c.conns {
		c.running.Go(func() { c.failed[i] = c.talk(i) })
	}
}

// patience is how long an answer may take: longer than the server is away, and
// than TCP waits before it sends once more.
const patience = 30 * time.Second

// talk sends numbered messages, each when the one before has come back.
func (c *clients) talk(i int) error {
	var out, in [messageSize]byte
	for n := uint64(0); !c.stop.Load(); n++ {
		putMessage(out[:], n)
		if err := c.conns[i].SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := c.conns[i].Write(out[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(c.conns[i], in[:]); err != nil {
			return err
		}
		if !isMessage(in[:], n) {
			return fmt.Errorf("message %d came back as another", n)
		}
		c.counts[i].Add(1)
		pause()
	}
	return nil
}

// total is how many messages have come back, and the fewest of a connection.
func (c *clients) total() (sum, fewest uint64) {
	fewest = ^uint64(0)
	for i := range c.counts {
		n := c.counts[i].Load()
		sum, fewest = sum+n, min(fewest, n)
	}
	return sum, fewest
}

// awaitMore waits until every connection has had more messages than counts
// says, or has failed.
func (c *clients) awaitMore(counts []uint64, more uint64) {
	for end := time.Now().Add(patience); time.Now().Before(end); pause() {
		missing := 0
		for i := range c.counts {
			if c.counts[i].Load() < counts[i]+more {
				missing++
			}
		}
		if missing == 0 {
			return
		}
	}
}

// snapshot is how many messages each connection has had.
func (c *clients) snapshot() []uint64 {
	out := make([]uint64, len(c.counts))
	for i := range c.counts {
		out[i] = c.counts[i].Load()
	}
	return out
}

// end stops the clients and returns what failed, by connection.
func (c *clients) end() []error {
	c.stop.Store(true)
	c.running.Wait()
	var errs []error
	for i, err := range c.failed {
		if err != nil {
			errs = append(errs, fmt.Errorf("connection %d: %w", i, err))
		}
	}
	return errs
}

func (c *clients) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
	c.control.Close()
}

// report is what the server says of itself.
type report struct{ passed, wrong, changed uint64 }

// ask asks the server how it goes.
func (c *clients) ask() (report, error) {
	var b [reportSize]byte
	if err := c.control.SetDeadline(time.Now().Add(patience)); err != nil {
		return report{}, err
	}
	if _, err := c.control.Write([]byte{'?'}); err != nil {
		return report{}, err
	}
	if _, err := io.ReadFull(c.control, b[:]); err != nil {
		return report{}, err
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return report{word(0), word(1), word(2)}, nil
}

// spawn starts the server with a listener that both know.
func spawn(at string, pairs, memory int) (pid int, addr string, err error) {
	l, err := listen(at)
	if err != nil {
		return 0, "", err
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, "", err
	}
	defer null.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{serverName, fmt.Sprint(pairs), fmt.Sprint(memory)}, &os.ProcAttr{
		Files: []*os.File{null, null, null, f}, Sys: ownSession(),
	})
	if err != nil {
		return 0, "", fmt.Errorf("start the server: %w", err)
	}
	// It is waited for by number: what is restored is another process.
	pid = p.Pid
	return pid, l.Addr().String(), p.Release()
}
