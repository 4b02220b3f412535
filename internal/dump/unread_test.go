package dump

import (
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/options"
)

// A thread of which a dump that has to end has not read the registers goes on with a call
// that any stop ends, be it that it is known to have stopped or not.
func TestUnreadGoesOn(t *testing.T) {
	testkit.RequireRoot(t)
	program := testkit.BuildC(t, "testdata/epoll.c")
	for name, known := range map[string]bool{"stopped": true, "asked to": false} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program)
			in, err1 := cmd.StdinPipe()
			out, err2 := cmd.StdoutPipe()
			if err := errors.Join(err1, err2, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()         //nolint:errcheck // it is killed
			defer cmd.Process.Kill() //nolint:errcheck // it may have ended
			pid := proc.PID(cmd.Process.Pid)
			dir, err := proc.Open(pid)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			testkit.Poll(t, "it waits", func() bool {
				at, err := dir.ReadFile("wchan")
				return err == nil && strings.Contains(string(at), "ep")
			})
			d := newDump(options.NewDump(), dirOf(t), slog.New(slog.DiscardHandler))
			defer d.close()
			err = tracee.Run(func() error {
				f := d.freezer
				f.ctx, f.seizing = t.Context(), tracee.NewSeizing()
				f.seen, f.moving, f.doubted = map[proc.TID]bool{}, map[*scan.Thread]bool{}, map[*scan.Task]bool{}
				th, err := f.take(&scan.Task{PID: pid, Dir: dir}, proc.TID(pid))
				if err == nil && known {
					err = f.await(th)
				}
				if err == nil {
					err = f.mendUnread(th)
				}
				return errors.Join(err, f.thaw())
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			var how [1]byte
			if _, err := io.ReadFull(out, how[:]); err != nil || how[0] != 'o' {
				t.Errorf("its call ended with %q, %v", how, err)
			}
		})
	}
}
