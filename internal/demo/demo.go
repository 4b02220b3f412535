// Package demo shows in ten seconds what Glis does: a server with many open
// connections is frozen, saved, ended and restored, and nobody who talks to it
// notices.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis"
	"glis.dev/glis/options"
)

// What the demonstration is about.
const (
	connections = 200
	pairs       = 20
	little      = 8 << 20 // bytes of memory that the server watches
	big         = 1 << 30
	away        = time.Second // that nothing of the server exists
)

// show is one run.
type show struct {
	opts *options.Demo
	out  io.Writer
	dir  string // of the images
	pid  int
	cli  *clients

	before, frozen, back []uint64 // messages by connection
	unix                 [3]uint64
	stats                glis.DumpStats
	gone, restored       time.Duration
	started              time.Time
}

// Run shows it and tells how it went on out. It fails if one message was lost
// or changed.
func Run(ctx context.Context, o *options.Demo, out io.Writer) error {
	// What a shell left open in us is not to become part of the server.
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	dir, err := os.MkdirTemp("", "glis-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &show{opts: o, out: out, dir: dir}
	defer s.cleanUp()
	for _, step := range []func(context.Context) error{s.begin, s.save, s.wake, s.finish} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *show) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// cleanUp ends what is left of the show.
func (s *show) cleanUp() {
	if s.cli != nil {
		s.cli.close()
	}
	if s.pid != 0 && unix.Kill(s.pid, unix.SIGKILL) == nil {
		_, _ = unix.Wait4(s.pid, nil, 0, nil) // nothing depends on it any more
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "inventory.img")); len(left) > 0 {
		_, _ = glis.Unlock(s.dir) // if it was not restored
	}
}

// begin starts server and clients and lets them talk.
func (s *show) begin(context.Context) error {
	memory := little
	if s.opts.Big {
		memory = big
	}
	var addr string
	var err error
	if s.pid, addr, err = spawn(anywhere, pairs, memory); err != nil {
		return err
	}
	if s.cli, err = connect(addr, connections); err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	s.say("A server, process %d, with %d TCP connections and %d unix socket pairs, all exchanging numbered messages.", s.pid, connections, pairs)
	s.cli.start()
	s.cli.awaitMore(make([]uint64, connections), 100)
	r, err := s.cli.ask()
	s.unix[0] = r.passed
	return err
}

// save freezes and saves the server.
func (s *show) save(ctx context.Context) error {
	s.before, s.started = s.cli.snapshot(), time.Now()
	var err error
	s.stats, err = glis.Dump(ctx, glis.DumpOptions{PID: s.pid, ImagesDir: s.dir, TCPEstablished: true, LeaveRunning: s.opts.LeaveRunning})
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	s.frozen = s.cli.snapshot()
	if s.opts.LeaveRunning {
		s.say("Saved while it runs; it stood still for %s.", ms(s.stats.Frozen))
		return nil
	}
	if err := unix.Kill(s.pid, 0); err != unix.ESRCH {
		return fmt.Errorf("the server is still there after the dump: %v", err)
	}
	s.say("Frozen, saved and ended: there is no process %d.", s.pid)
	time.Sleep(away)
	return nil
}

// wake restores the server.
func (s *show) wake(ctx context.Context) error {
	if s.opts.LeaveRunning {
		return nil
	}
	from := time.Now()
	tree, err := glis.Restore(ctx, glis.RestoreOptions{ImagesDir: s.dir, TCPEstablished: true})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	s.restored, s.gone = time.Since(from), time.Since(s.started)
	if tree.PID != s.pid {
		return fmt.Errorf("the server came back as process %d, it was %d", tree.PID, s.pid)
	}
	s.say("Restored: process %d runs, in %s.", s.pid, ms(s.restored))
	return nil
}

// finish lets everybody talk on and adds up.
func (s *show) finish(context.Context) error {
	s.back = s.cli.snapshot()
	s.cli.awaitMore(s.back, 100)
	r, err := s.cli.ask()
	if err != nil {
		return fmt.Errorf("ask the server how it goes: %w", err)
	}
	failed := s.cli.end()
	s.unix[2] = r.passed - s.unix[0]
	s.table(len(failed), r)
	if r.wrong > 0 || r.changed > 0 {
		failed = append(failed, fmt.Errorf("the server found %d wrong messages and %d changed words of memory", r.wrong, r.changed))
	}
	return errors.Join(failed...)
}

// table prints the figures.
func (s *show) table(lost int, r report) {
	before, during, after := sum(s.before), sum(s.back)-sum(s.before), uint64(0)
	total, _ := s.cli.total()
	after = total - sum(s.back)
	s.say("")
	s.say("%-18s %12s %10s %10s %10s %6s", "", "connections", "before", "during", "after", "lost")
	s.say("%-18s %12d %10d %10d %10d %6d", "TCP", connections, before, during, after, lost)
	s.say("%-18s %12d %10d %10s %10d %6d", "unix socket pairs", pairs, s.unix[0], "-", s.unix[2], r.wrong)
	s.say("")
	s.say("%-18s %12s", "freeze", ms(s.stats.Frozen))
	if !s.opts.LeaveRunning {
		s.say("%-18s %12s", "away", ms(s.gone))
	}
	s.say("%-18s %8.1f MiB", "images", float64(sizeOf(s.dir))/(1<<20))
}

func sum(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// sizeOf is how many bytes the files of a directory have.
func sizeOf(dir string) (n int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
	}
	return n
}

// anywhere is a free port of the loopback interface.
const anywhere = "127.0.0.1:0"

// listen opens the server's listener, a plain TCP one.
func listen(at string) (*net.TCPListener, error) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(context.Background(), "tcp4", at)
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("a listener of type %T", l)
	}
	return tcp, nil
}

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
