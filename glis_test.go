package glis_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"glis.dev/glis"

	"glis.dev/glis/internal/testkit"
)

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// keepOwn keeps children from having what a shell left open in us.
func keepOwn() {
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		panic(err)
	}
}

// sleeper starts a process that does nothing.
func sleeper(t *testing.T) int { return sleeperIn(t, ownSession()) }

func sleeperIn(t *testing.T, how *syscall.SysProcAttr) int {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{Files: []*os.File{null, null, null}, Sys: how})
	if err != nil {
		t.Fatal(err)
	}
	return p.Pid
}

// end kills a child and waits for it.
func end(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Error(err)
	}
}

func requireRoot(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
}

// Nothing is global: trees are dumped and restored side by side.
func TestTwoAtOnce(t *testing.T) {
	requireRoot(t)
	var work errgroup.Group
	for range 4 {
		pid, dir := sleeper(t), t.TempDir()
		work.Go(func() error {
			for range 3 {
				if _, err := glis.Dump(t.Context(), glis.DumpOptions{PID: pid, ImagesDir: dir}); err != nil {
					return err
				}
				got, err := glis.Restore(t.Context(), glis.RestoreOptions{ImagesDir: dir})
				if err != nil {
					return err
				}
				if got.PID != pid {
					return fmt.Errorf("came back as %d, was %d", got.PID, pid)
				}
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
				if err := os.Mkdir(dir, 0o700); err != nil {
					return err
				}
			}
			end(t, pid)
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		t.Error(err)
	}
}

// A tree whose root is to be killed when its parent ends has this program as that, not
// the thread that restored it.
func TestParentsEnd(t *testing.T) {
	requireRoot(t)
	pid, dir := sleeperIn(t, &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}), t.TempDir()
	if _, err := glis.Dump(t.Context(), glis.DumpOptions{PID: pid, ImagesDir: dir}); err != nil {
		t.Fatal(err)
	}
	back, err := glis.Restore(t.Context(), glis.RestoreOptions{ImagesDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if ws, err := back.Wait(); err != nil || ws.Signal() != unix.SIGTERM {
		t.Errorf("it ended by %v (%v)", ws.Signal(), err)
	}
}

// watcher is an Observer that refuses one point.
type watcher struct {
	seen   []glis.Point
	refuse glis.Point
}

var errRefused = errors.New("refused")

func (*watcher) Stage(string) {}
func (w *watcher) Notify(_ context.Context, p glis.Point, _ int) error {
	w.seen = append(w.seen, p)
	if p == w.refuse {
		return errRefused
	}
	return nil
}

// An observer that refuses a dump or restore has nothing happen.
func TestObserverRefuses(t *testing.T) {
	requireRoot(t)
	pid := sleeper(t)
	for _, o := range []glis.DumpOptions{{}, {LeaveRunning: true}} {
		for _, p := range []glis.Point{glis.PreDump, glis.PostDump} {
			o.PID, o.ImagesDir, o.Observer = pid, t.TempDir(), &watcher{refuse: p}
			if _, err := glis.Dump(t.Context(), o); !errors.Is(err, errRefused) {
				t.Fatalf("%s: %v", p, err)
			}
			if left, err := os.ReadDir(o.ImagesDir); err != nil || len(left) > 0 {
				t.Errorf("%s: left %v, %v", p, left, err)
			}
		}
	}
	dir := t.TempDir()
	if _, err := glis.Dump(t.Context(), glis.DumpOptions{PID: pid, ImagesDir: dir}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []glis.Point{glis.PreRestore, glis.PostRestore} {
		if _, err := glis.Restore(t.Context(), glis.RestoreOptions{ImagesDir: dir, Observer: &watcher{refuse: p}}); !errors.Is(err, errRefused) {
			t.Fatalf("%s: %v", p, err)
		}
		if err := unix.Kill(pid, 0); err != unix.ESRCH {
			t.Errorf("%s: the process is there: %v", p, err)
		}
	}
	// These come too late to refuse.
	w := &watcher{refuse: glis.PreResume}
	if _, err := glis.Restore(t.Context(), glis.RestoreOptions{ImagesDir: dir, Observer: w}); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(w.seen), "[pre-restore post-restore pre-resume post-resume]"; got != want {
		t.Errorf("notified of %s, want %s", got, want)
	}
	end(t, pid)
}

func TestWrongOptions(t *testing.T) {
	if _, err := glis.Dump(t.Context(), glis.DumpOptions{ImagesDir: t.TempDir()}); err == nil {
		t.Error("a dump of nobody")
	}
	if _, err := glis.Dump(t.Context(), glis.DumpOptions{PID: 1}); err == nil {
		t.Error("a dump to nowhere")
	}
	if _, err := glis.Restore(t.Context(), glis.RestoreOptions{}); err == nil {
		t.Error("a restore from nowhere")
	}
}
