package dump

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/options"
)

// Threads of which a dump that has to end has not read the registers go on with a call
// that any stop ends, be it that they are known to have stopped or not. One for which a signal
// waits is told of it.
func TestUnreadGoesOn(t *testing.T) {
	testkit.RequireRoot(t)
	program := testkit.BuildC(t, "testdata/epoll.c", "-pthread")
	for _, tt := range []struct {
		name    string
		threads int
		known   bool // they have stopped
		signal  bool
		want    string
	}{
		{"stopped", 1, true, false, "o"},
		{"asked to", 1, false, false, "o"},
		{"signal", 1, true, true, "e"},
		{"many stopped", 300, true, false, strings.Repeat("o", 300)},
		{"many asked to", 300, false, false, strings.Repeat("o", 300)},
		{"many and a signal", 300, true, true, "e" + strings.Repeat("o", 299)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd, in, out := waiter(t, program, tt.threads)
			pid := proc.PID(cmd.Process.Pid)
			dir, err := proc.Open(pid)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			tids := inEpoll(t, dir, tt.threads)
			if err := cutShort(t, &scan.Task{PID: pid, Dir: dir}, tids, tt.known, func() error {
				if !tt.signal {
					return nil
				}
				return unix.Tgkill(int(pid), int(tids[tt.threads/2]), unix.SIGUSR1)
			}); err != nil {
				t.Fatal(err)
			}
			how := make([]byte, tt.threads)
			if tt.signal { // it says so before there is input
				if _, err := io.ReadFull(out, how[:1]); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := in.Write([]byte("x")); err != nil && tt.threads > 1 { // else it has ended
				t.Fatal(err)
			}
			rest := how
			if tt.signal {
				rest = how[1:]
			}
			if _, err := io.ReadFull(out, rest); err != nil || string(how) != tt.want {
				t.Errorf("calls ended with %q, %v", how, err)
			}
		})
	}
}

// waiter starts a program of which so many threads wait in epoll_wait(2), and ends it with the
// test.
func waiter(t *testing.T, program string, threads int) (*exec.Cmd, io.Writer, io.Reader) {
	t.Helper()
	cmd := exec.Command(program, strconv.Itoa(threads))
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it is killed
	})
	return cmd, in, out
}

// inEpoll awaits that all threads of a process wait, and returns them.
func inEpoll(t *testing.T, dir *proc.Dir, n int) (tids []proc.TID) {
	t.Helper()
	testkit.Poll(t, "all wait", func() bool {
		var err error
		tids, err = dir.Threads()
		for _, tid := range tids {
			at, failed := dir.ReadFile(fmt.Sprintf("task/%d/wchan", tid))
			if failed != nil || !strings.Contains(string(at), "ep") {
				return false
			}
		}
		return err == nil && len(tids) == n
	})
	return tids
}

// cutShort seizes threads, and lets them go before their registers were read. meanwhile is
// called when they have been told to stop.
func cutShort(t *testing.T, task *scan.Task, tids []proc.TID, known bool, meanwhile func() error) error {
	d := newDump(options.NewDump(), dirOf(t), slog.New(slog.DiscardHandler))
	defer d.close()
	return tracee.Run(func() error {
		f := d.freezer
		f.ctx, f.seizing = t.Context(), tracee.NewSeizing()
		f.seen, f.moving, f.doubted = map[proc.TID]bool{}, map[*scan.Thread]bool{}, map[*scan.Task]bool{}
		for _, tid := range tids {
			th, err := f.take(task, tid)
			if err == nil && th == nil {
				err = fmt.Errorf("thread %d of %d is gone", tid, len(tids))
			}
			if err == nil && known {
				err = f.await(th)
			}
			if err != nil {
				return errors.Join(err, f.thaw())
			}
		}
		return errors.Join(meanwhile(), f.mendUnread(time.Now().Add(testkit.Patience)), f.thaw())
	})
}
