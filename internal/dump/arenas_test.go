package dump

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

// hasOurs tells in how many tasks of a tree there is memory like Glis's.
func hasOurs(t *testing.T, root int) (n int) {
	t.Helper()
	pids, _, _ := look(proc.PID(root))
	for _, pid := range pids {
		d, err := proc.Open(pid)
		if err != nil {
			t.Fatal(err)
		}
		maps, err := d.ReadFile("maps")
		d.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(maps), " rwxp ") {
			n++
		}
	}
	return n
}

// Of many tasks only those have memory of ours that are being asked: to take it out of
// thousands is what kept a tree from running on when its dump was cancelled.
func TestLentArenas(t *testing.T) {
	testkit.RequireRoot(t)
	defer func(n int) { thousandsOfTasks = n }(thousandsOfTasks)
	const tasks = 3 * atOnce / 2
	program := testkit.BuildC(t, "../../test/targets/longlists.c")
	p := testkit.Start(t, testkit.NewDir(t), program, "processes", "71", ".")
	testkit.AwaitFile(t, filepath.Join(p.Dir, "at.0"), p.PID)
	for _, tt := range []struct {
		name string
		many int // from how many on
		want int // tasks that have some after they were collected
	}{
		{"few", 1000, tasks}, {"many", 20, 0},
	} {
		thousandsOfTasks = tt.many
		for _, end := range []string{"", "ask", "files"} {
			ctx, cancel := context.WithCancel(context.Background())
			stages := event.Progress(func(name string) {
				if name == "ask" || name == "files" {
					if got := hasOurs(t, p.PID); got != tt.want {
						t.Errorf("%s: before %q %d tasks have memory of ours, want %d", tt.name, name, got, tt.want)
					}
				}
				if name == end {
					cancel()
				}
			})
			_, err := Run(ctx, dumpOf(p, true), dirOf(t), slog.New(slog.DiscardHandler), event.All{stages})
			cancel()
			if end == "" && err != nil || end != "" && !errors.Is(err, context.Canceled) {
				t.Fatalf("%s, cancelled in %q: %v", tt.name, end, err)
			}
			if got := hasOurs(t, p.PID); got != 0 {
				t.Errorf("%s, cancelled in %q: %d tasks still have memory of ours", tt.name, end, got)
			}
			testkit.Unharmed(t, p.PID)
		}
	}
}

// A task that has none any more gets it once more if a brake has to be taken off: of many
// tasks it wasn't seen that there are sockets.
func TestBrakedWithoutArena(t *testing.T) {
	testkit.RequireRoot(t)
	defer func(n int) { thousandsOfTasks = n }(thousandsOfTasks)
	program := testkit.BuildC(t, "../../test/targets/manyconns.c")
	p := testkit.Start(t, testkit.NewDir(t), program, "10")
	port := filepath.Join(p.Dir, "port")
	testkit.AwaitFile(t, port, p.PID)
	n, err := os.ReadFile(port)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, testkit.NewDir(t), program, "10", string(n))
	for _, name := range []string{"ready.0", "ready.1", "ready.2", "ready.3"} {
		testkit.AwaitFile(t, filepath.Join(p.Dir, name), p.PID)
	}
	for _, end := range []string{"", "files"} {
		ctx, cancel := context.WithCancel(context.Background())
		thousandsOfTasks = 1000
		stages := event.Progress(func(name string) {
			switch {
			case name == "freeze":
				thousandsOfTasks = 1
			case name == "lock" && hasOurs(t, p.PID) > 0:
				t.Error("a task of many still has memory of ours when it is locked")
			case name == end:
				cancel()
			}
		})
		_, err = Run(ctx, dumpOf(p, true), dirOf(t), slog.New(slog.DiscardHandler), event.All{stages})
		cancel()
		if end == "" && err != nil || end != "" && !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled in %q: %v", end, err)
		}
		testkit.Unharmed(t, p.PID)
	}
}

// Of many tasks nearly all may be zombies, so that few are asked.
func TestLentToFew(t *testing.T) {
	testkit.RequireRoot(t)
	defer func(n int) { thousandsOfTasks = n }(thousandsOfTasks)
	thousandsOfTasks = 5
	program := testkit.BuildC(t, "../../test/targets/zombies.c")
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, program, dir)
	p.AwaitAt(t, 0)
	if _, err := Run(context.Background(), dumpOf(p, true), dirOf(t), slog.New(slog.DiscardHandler), event.All{}); err != nil {
		t.Fatal(err)
	}
	if got := hasOurs(t, p.PID); got != 0 {
		t.Errorf("%d tasks still have memory of ours", got)
	}
}

// What could not be read since the dump was to end is not all that is said.
func TestOrOver(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	d, unread := &dump{ctx: ctx}, errors.New("it can't be read")
	if err := d.orOver(unread); err != unread { //nolint:errorlint // the same, as it is
		t.Errorf("before the end: %v", err)
	}
	cancel()
	if err := d.orOver(unread); !errors.Is(err, context.Canceled) || !errors.Is(err, unread) {
		t.Errorf("at the end: %v", err)
	}
	if err := d.ended(); d.orOver(err) != err { //nolint:errorlint // the same, as it is
		t.Errorf("it is said twice: %v", d.orOver(err))
	}
}
