package taskmem

import (
	"bytes"
	"errors"
	"os"
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
	pidfd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	for range 1000 {
		n := threads(t)
		ok, err := r.Together(pidfd, n)
		if err != nil {
			t.Fatal(err)
		}
		if more, err := r.Together(pidfd, n+1); ok && (more || err != nil) {
			t.Fatalf("%d threads are %d: %v", n, n+1, err)
		}
		if ok || n == threads(t) {
			return ok
		}
	}
	t.Fatal("threads come and go")
	return false
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

func TestSame(t *testing.T) {
	one := bytes.Repeat([]byte{1}, recordSize)
	alone := bytes.Clone(one) // with a keyring of its own
	clear(one[(len(shared)+keyringOfOne)*word:][:word])
	other := append(bytes.Clone(one[:recordSize-1]), 2)
	none := append(make([]byte, word), one[word:]...)
	for _, x := range []struct {
		n    int
		b    []byte
		want bool
	}{
		{0, nil, false}, {1, one, true}, {2, one, false}, {1, bytes.Repeat(one, 2), false}, {2, bytes.Repeat(one, 2), true},
		{2, append(bytes.Clone(one), other...), false}, {1, none, false}, {1, one[1:], false}, {1, alone, false}, {2, bytes.Repeat(alone, 2), false},
	} {
		if got := same(x.b, x.n); got != x.want {
			t.Errorf("%d threads, %x: %v", x.n, x.b, got)
		}
	}
}
