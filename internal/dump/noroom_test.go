package dump

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Where there are more processes than Glis may have descriptors for, it says how many it
// needs and which limit has to be raised.
func TestTooFewDescriptors(t *testing.T) {
	f := &freezer{tree: &scan.Tree{}, ctx: context.Background(), known: func(*scan.Task) error { return nil }}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := f.add([]proc.PID{proc.PID(os.Getpid()), 1, 2})
	if back := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); back != nil {
		t.Fatal(back)
	}
	for _, want := range []string{"3 processes", "it needs 262, and may have 0 (RLIMIT_NOFILE)", "ulimit -Hn"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("%v, want EMFILE", err)
	}
}

// Before that it gives back those that only save time.
func TestSparesDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	f := &freezer{tree: &scan.Tree{}, ctx: context.Background(), known: func(*scan.Task) error { return nil }}
	spared := 0
	f.spare = func() bool {
		spared++
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) == nil
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	tasks, err := f.add([]proc.PID{proc.PID(os.Getpid())})
	if back := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); back != nil {
		t.Fatal(back)
	}
	if err != nil || len(tasks) != 1 || spared != 1 {
		t.Fatalf("%d tasks, %d times spared, %v", len(tasks), spared, err)
	}
	if err := errors.Join(tasks[0].Pidfd.Close(), tasks[0].Dir.Close()); err != nil {
		t.Error(err)
	}
}
