package taskmem

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// The first thread is the one that all others share with.
func init() { runtime.LockOSThread() }

func threads(t *testing.T) int {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/task", &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Nlink) - 2
}

// together asks about the test itself, whose runtime may start a thread at any
// time.
func together(t *testing.T, r *Reader) bool {
	t.Helper()
	all := picture(t, r)
	if i := len(all) - 1; all[i].TID == 0 || all[0].TID != uint32(unix.Getpid()) {
		t.Errorf("threads %d to %d, the first one is %d", all[0].TID, all[i].TID, unix.Getpid())
	}
	return all.Together()
}

// TestTogether has a thread leave what others share, one by one, and end.
func TestTogether(t *testing.T) {
	r, err := Open()
	testkit.KernelMemory(t, err)
	defer r.Close()
	if !together(t, r) {
		t.Fatal("not together at first")
	}
	unshare := func(flag int) func() error { return func() error { return unix.Unshare(flag) } }
	for _, x := range []struct {
		name  string
		leave func() error
	}{
		{"files", unshare(unix.CLONE_FILES)}, {"fs", unshare(unix.CLONE_FS)}, {"net", unshare(unix.CLONE_NEWNET)}, {"ipc", unshare(unix.CLONE_NEWIPC)},
		{"uts", unshare(unix.CLONE_NEWUTS)}, {"cgroup", unshare(unix.CLONE_NEWCGROUP)}, {"pid", unshare(unix.CLONE_NEWPID)},
		{"session keyring", func() error { _, err := unix.KeyctlJoinSessionKeyring("glis-alone"); return err }},
		{"thread keyring", func() error {
			_, err := unix.AddKey("user", "glis-alone", []byte("x"), unix.KEY_SPEC_THREAD_KEYRING)
			return err
		}},
		{"login uid", otherLogin},
	} {
		t.Run(x.name, func(t *testing.T) {
			left, done, gone := make(chan error), make(chan struct{}), make(chan struct{})
			go func() {
				defer close(gone)
				runtime.LockOSThread() // never unlocked: the thread ends
				left <- x.leave()
				<-done
			}()
			err := <-left
			if err == nil && together(t, r) {
				t.Error("nobody saw it leave")
			}
			close(done)
			<-gone
			if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.ENOENT) {
				t.Fatal(err)
			}
		})
	}
}

// otherLogin gives the thread a login uid that the process does not have.
func otherLogin() error {
	const file = "/proc/thread-self/loginuid"
	was, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	uid := "7"
	if string(was) == uid {
		uid = "8"
	}
	return os.WriteFile(file, []byte(uid), 0)
}

// TestChildless has a thread begin a process, and compares with /proc.
func TestChildless(t *testing.T) {
	r, err := Open()
	testkit.KernelMemory(t, err)
	defer r.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait() //nolint:errcheck // it ends with its input
	defer in.Close()
	parents := 0
	for _, th := range picture(t, r) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", th.TID))
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread of the runtime that has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		if th.Childless != (len(b) == 0) {
			t.Errorf("thread %d is childless: %v, /proc says %q", th.TID, th.Childless, b)
		}
		if !th.Childless {
			parents++
		}
	}
	if parents != 1 {
		t.Errorf("%d threads have children", parents)
	}
}

// picture is one of the test itself.
func picture(t *testing.T, r *Reader) Picture {
	t.Helper()
	pidfd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	for range 1000 {
		if all, err := r.Look(pidfd, threads(t)); err != nil {
			t.Fatal(err)
		} else if all != nil {
			return all
		}
	}
	t.Fatal("threads come and go")
	return nil
}

// TestNothing: what is not there has no picture.
func TestNothing(t *testing.T) {
	var none *Reader
	if all, err := none.Look(-1, 3); all != nil || err != nil {
		t.Errorf("without a reader: %v, %v", all, err)
	}
	if err := none.Close(); err != nil {
		t.Error(err)
	}
	if Picture(nil).Together() {
		t.Error("nobody is together")
	}
	if (Picture{{Set: 0}, {Set: 1}}).Together() || (Picture{{Set: -1}, {Set: -1}}).Together() || !(Picture{{Set: 0}, {Set: 0}}).Together() {
		t.Error("sets are not compared")
	}
}
