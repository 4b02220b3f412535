package dump

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/restore"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// What a dump that is cancelled may still do until the tree runs on, in system
// calls, whatever the tree is like (many threads are let go by none), and besides for
// each connection that was prepared for its end: six calls, and one more of what was busy;
// and for each thread that was just being stopped three, and as
// often as it had not done so yet.
const (
	mostSteps   = 300
	mostForEach = 7
	mostStopped = 3
	timersSteps = 200 // a batch that asks for 256 of them
)

// stopped is what a dump was at when it was cancelled, and how many steps later the
// tree ran on.
type stopped struct {
	stage string
	steps int
}

// stopAfter dumps a tree and cancels that when it has made so many steps. steps is -1
// if it came to its end before, and all is how many it made until the tree ran on.
func stopAfter(t *testing.T, o *options.Dump, c *calls, steps int) (s stopped, all int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begin, stage, at, done := c.n(), "", make(chan stopped, 1), make(chan struct{})
	frozen, end := 0, 0 // when the freeze began and ended
	var stages event.Progress = func(name string) {
		if stage == "" {
			frozen = c.n()
		}
		stage = name
	}
	log := slog.New(whenLetGo{slog.DiscardHandler, func() { end = c.n() }})
	go func() {
		defer close(at)
		for c.n() < begin+steps {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Microsecond): // system calls wake nobody
			}
		}
		cancel()
		at <- stopped{steps: c.n()} // not before: this may have to wait in between
	}()
	images := dirOf(t)
	_, err := Run(ctx, o, images, log, event.All{stages})
	close(done)
	if err == nil && !o.LeaveRunning { // nobody restores it, who would take the lock away
		if _, err := restore.Unlock(images, nil); err != nil {
			t.Error(err)
		}
	}
	s, ok := <-at
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err == nil || !ok || end == 0 {
		return stopped{steps: -1}, end - begin
	}
	return stopped{stage, max(0, end-max(s.steps, frozen))}, end - begin
}

// whenLetGo is a log handler that does something when the tree was let go.
type whenLetGo struct {
	slog.Handler
	f func()
}

func (h whenLetGo) Enabled(context.Context, slog.Level) bool { return true }

func (h whenLetGo) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "the tree runs on" {
		h.f()
	}
	return nil
}

// However large the tree is, and whatever a dump is at when it is cancelled, it does
// only little more than to let the threads go. That is counted, not timed.
func TestCancelledInFewSteps(t *testing.T) {
	testkit.RequireRoot(t)
	for _, tt := range []struct {
		name    string
		program string
		args    []string // of crowd.c: MiB, mappings, threads
		ready   []string
		more    int // for connections or threads
	}{
		{"threads", "crowd.c", []string{"1", "10", "600", "."}, []string{"heart"}, 600 * mostStopped},
		{"mappings", "crowd.c", []string{"1", "20000", "1", "."}, []string{"heart"}, 0},
		{"memory", "crowd.c", []string{"64", "10", "1", "."}, []string{"heart"}, 0},
		{"descriptors", "manyfds.c", []string{"4000", "."}, []string{"at.0"}, 0},
		{"sockets", "manyconns.c", []string{"1000"}, []string{"ready.0", "ready.1", "ready.2", "ready.3"}, 1005 * mostForEach},
		{"watches", "longlists.c", []string{"watches", "3000", "."}, []string{"at.0"}, 0},
		{"timers", "longlists.c", []string{"timers", "40000", "."}, []string{"at.0"}, timersSteps},
		{"messages", "longlists.c", []string{"messages", "5000", "."}, []string{"at.0"}, 0},
		{"stream", "longlists.c", []string{"stream", "5000", "."}, []string{"at.0"}, 0},
		{"datagrams", "longlists.c", []string{"datagrams", "5000", "."}, []string{"at.0"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program := testkit.BuildC(t, "../../test/targets/"+tt.program)
			p := testkit.Start(t, testkit.NewDir(t), append([]string{program}, tt.args...)...)
			if tt.name == "sockets" {
				port := filepath.Join(p.Dir, "port")
				testkit.AwaitFile(t, port, p.PID)
				n, err := os.ReadFile(port)
				if err != nil {
					t.Fatal(err)
				}
				testkit.Start(t, testkit.NewDir(t), program, tt.args[0], string(n))
			}
			for _, name := range tt.ready {
				testkit.AwaitFile(t, filepath.Join(p.Dir, name), p.PID)
			}
			fewSteps(t, p, mostSteps+tt.more)
		})
	}
}

// fewSteps cancels dumps of a tree at moments all over, until one was too quick and
// has ended it. How many steps a dump takes differs: some connections are asked by
// system calls if they were busy, and what counts is how many it takes at least.
func fewSteps(t *testing.T, p *testkit.Proc, most int) {
	const moments = 8
	c := countCalls(t)
	all := 1 << 30
	for range 3 {
		_, n := stopAfter(t, dumpOf(p, true), c, 1<<30)
		all = min(all, n)
	}
	for _, leave := range []bool{true, false} {
		cancelled, worst := 0, stopped{}
		for i := range 2 * moments {
			at := all * i / moments
			s, n := stopAfter(t, dumpOf(p, leave), c, at)
			if s.steps < 0 {
				if !leave || cancelled >= moments/2 {
					break
				}
				all = min(all, n)
				continue
			}
			testkit.Unharmed(t, p.PID)
			cancelled++
			if s.steps > worst.steps {
				worst = s
			}
			if s.steps > most {
				t.Errorf("cancelled after %d steps, in stage %q: %d more until the tree ran on, want %d at most", at, s.stage, s.steps, most)
			}
		}
		t.Logf("leave running %v: a dump takes %d steps, and at most %d more when it is cancelled (in stage %q, %d dumps)", leave, all, worst.steps, worst.stage, cancelled)
		if cancelled < moments/2 {
			t.Errorf("only %d of %d dumps were cancelled", cancelled, moments)
		}
	}
}
