package dump

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

// self is the picture of this test's process with its leader and one more
// thread, and its namespaces.
func self(t *testing.T, tid int) (*scan.Task, map[string]string) {
	t.Helper()
	pid := proc.PID(os.Getpid())
	dir, err := proc.Open(pid)
	must(t, err)
	t.Cleanup(func() { dir.Close() })
	task := &scan.Task{PID: pid, Dir: dir}
	for _, n := range []int{os.Getpid(), tid} {
		task.Threads = append(task.Threads, &scan.Thread{Thread: remote.Thread{Tgid: pid, TID: proc.TID(n)}, Task: task})
	}
	own := map[string]string{}
	for _, ns := range namespaces {
		own[ns], err = dir.Link("ns/" + ns)
		must(t, err)
	}
	return task, own
}

// Tests run on other threads than the first one: that of a test which leaves
// something stays as it is, and the first one is the leader in all tests.
func init() { runtime.LockOSThread() }

// TestApart has a thread leave something that the others share.
func TestApart(t *testing.T) {
	for _, x := range []struct {
		name string
		flag int
		word string // "" if nothing is to be refused
	}{
		{"nothing", 0, ""},
		{"files", unix.CLONE_FILES, "descriptors"},
		{"fs", unix.CLONE_FS, "umask"},
		{"mnt", unix.CLONE_NEWNS, "umask"},
		{"net", unix.CLONE_NEWNET, "net namespace"},
		{"ipc", unix.CLONE_NEWIPC, "ipc namespace"},
		{"uts", unix.CLONE_NEWUTS, "uts namespace"},
		{"cgroup", unix.CLONE_NEWCGROUP, "cgroup namespace"},
		{"pid", unix.CLONE_NEWPID, "pid namespace for its children"},
	} {
		t.Run(x.name, func(t *testing.T) {
			tid, done := make(chan int), make(chan struct{})
			defer close(done)
			failed := make(chan error, 1)
			go func() {
				runtime.LockOSThread() // never unlocked: the thread ends
				failed <- unix.Unshare(x.flag)
				tid <- unix.Gettid()
				<-done
			}()
			err := <-failed
			task, own := self(t, <-tid)
			testkit.Lacks(t, "unshare(2)", err)
			err = (&dump{ctx: t.Context()}).apart(task, own, false)
			if x.word == "" {
				must(t, err)
			} else if !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), x.word) {
				t.Errorf("got %v, want a refusal with %q", err, x.word)
			}
		})
	}
}

func TestUsualExit(t *testing.T) {
	child := func(signal int32) *scan.Task {
		return &scan.Task{Parent: &scan.Task{}, Stat: proc.Stat{ExitSignal: signal}}
	}
	must(t, usualExit(child(int32(unix.SIGCHLD))))
	must(t, usualExit(&scan.Task{})) // the root: its parent is another one then
	for _, s := range []int32{0, int32(unix.SIGUSR1)} {
		if err := usualExit(child(s)); !errors.Is(err, kind.ErrUnsupported) {
			t.Errorf("exit signal %d: %v", s, err)
		}
	}
}
