package dump

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// While somebody has the lock of a tree, as the guardian of a dump whose engine was killed, it is
// not touched; then it is dumped.
func TestTurn(t *testing.T) {
	testkit.RequireRoot(t)
	p, log := crowd(t), slog.New(slog.DiscardHandler)
	n, err := unix.Open(fmt.Sprintf("/proc/%d", p.PID), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(n)
	if err := unix.Flock(n, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	o := dumpOf(p, true)
	o.Timeout, o.TimeoutGiven = 20*time.Millisecond, true
	dir := dirOf(t)
	if _, err := Run(context.Background(), o, dir, log, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another checkpoint") {
		t.Errorf("while another has the lock: %v", err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("told to end"))
	if _, err := Run(ctx, dumpOf(p, true), dirOf(t), log, nil); err == nil || !strings.Contains(err.Error(), "told to end") {
		t.Errorf("a context that has ended: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := Run(context.Background(), dumpOf(p, true), dirOf(t), log, nil)
		done <- err
	}()
	if err := unix.Flock(n, unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	testkit.Unharmed(t, p.PID)
	beats(t, p, 2)
}
