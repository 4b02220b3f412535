package dump

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// warned is a log handler that counts warnings.
type warned struct {
	slog.Handler
	n *atomic.Int32
}

func (h warned) Enabled(context.Context, slog.Level) bool { return true }

func (h warned) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		h.n.Add(1)
	}
	return nil
}

// A dump that is cancelled when registers were read has calls that any stop ends go on, and
// end for whom a signal waits; and it has nothing left that the guardian had to see to.
func TestCancelledCallsGoOn(t *testing.T) {
	testkit.RequireRoot(t)
	program := testkit.BuildC(t, "testdata/epoll.c", "-pthread")
	for _, tt := range []struct {
		name   string
		signal bool
		want   string
	}{{"alone", false, "ooo"}, {"with a signal", true, "eoo"}} {
		cmd, in, out := waiter(t, program, 3)
		dir, err := proc.Open(proc.PID(cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		tids := inEpoll(t, dir, 3)
		dir.Close()
		var err1 error
		ctx, cancel := context.WithCancel(t.Context())
		var late event.Progress = func(stage string) {
			if stage != "files" {
				return
			}
			if tt.signal {
				err1 = unix.Tgkill(cmd.Process.Pid, int(tids[1]), unix.SIGUSR1)
			}
			cancel()
		}
		o := options.NewDump()
		o.Tree, o.ShellJob = cmd.Process.Pid, true
		warnings := &atomic.Int32{}
		_, err = Run(ctx, o, dirOf(t), slog.New(warned{slog.DiscardHandler, warnings}), event.All{late})
		if !errors.Is(err, context.Canceled) || err1 != nil {
			t.Fatalf("%s: %v, %v", tt.name, err, err1)
		}
		if n := warnings.Load(); n != 0 {
			t.Errorf("%s: %d warnings: the guardian had something to do", tt.name, n)
		}
		if strings.Count(err.Error(), context.Canceled.Error()) > 1 {
			t.Errorf("%s: %v", tt.name, err)
		}
		how := make([]byte, 3)
		at := strings.Count(tt.want, "e") // who is interrupted says so before there is input
		if _, err := io.ReadFull(out, how[:at]); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, how[at:]); err != nil || string(how) != tt.want {
			t.Errorf("%s: calls ended with %q, %v", tt.name, how, err)
		}
	}
}
