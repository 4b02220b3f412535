package standin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// watched is what fdinfo tells of what a file watches.
func watched(t *testing.T, n int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", n))
	must(t, err)
	_, what, _ := strings.Cut(string(b), "mnt_id")
	_, what, _ = strings.Cut(what, "ino:") // of the descriptor itself
	return what
}

// folder is a directory with files and a link.
func folder(t *testing.T) func(string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	must(t, os.Symlink("a", filepath.Join(dir, "link")))
	return func(name string) string { return filepath.Join(dir, name) }
}

// An inotify file like another one has its watches, with their numbers and all flags.
func TestInotify(t *testing.T) {
	k, like := maker(t)
	in := folder(t)
	n, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	defer unix.Close(n)
	watch := func(name string, mask uint32) int {
		wd, err := unix.InotifyAddWatch(n, in(name), mask)
		must(t, err)
		return wd
	}
	watch("", unix.IN_CREATE|unix.IN_DELETE|unix.IN_ONLYDIR)
	_, err = unix.InotifyRmWatch(n, uint32(watch("b", unix.IN_OPEN)))
	must(t, err)
	read(n)
	watch("a", unix.IN_MODIFY|unix.IN_EXCL_UNLINK)
	watch("link", unix.IN_ATTRIB|unix.IN_DONT_FOLLOW)
	watch("b", unix.IN_OPEN|unix.IN_ONESHOT)
	own, err := like(n)
	must(t, err)
	if got, want := watched(t, own), watched(t, n); got != want {
		t.Errorf("it watches %s\nlike %s", got, want)
	}
	if got := read(own); got != unix.EAGAIN.Error() {
		t.Errorf("it has events: %q", got)
	}

	open, err := os.Open(in("a"))
	must(t, err)
	defer open.Close()
	at, err := k.memory.File(int(open.Fd()))
	must(t, err)
	its, err := k.memory.Lone(at)
	must(t, err)
	must(t, os.Remove(in("a")))
	read(n) // IN_DELETE of the directory
	if _, err := like(n); !errors.Is(err, ErrUnlike) || !strings.Contains(err.Error(), "no path that can be seen") {
		t.Errorf("a watch on what was deleted: %v", err)
	}
	k.Of = func(inode kmem.Addr) (*fd.FD, error) {
		if inode != its.Inode {
			return nil, nil
		}
		n, err := unix.Dup(int(open.Fd()))
		return fd.New(n), err
	}
	if own, err = like(n); err != nil || watched(t, own) != watched(t, n) {
		t.Errorf("a watch on what was deleted, and is open: %v", err)
	}
	must(t, os.Remove(in("link")))
	if _, err := like(n); !errors.Is(err, ErrUnlike) {
		t.Errorf("events wait: %v", err)
	}
}

// A fanotify file like another one has its flags and marks, on files and on mounts.
func TestFanotify(t *testing.T) {
	_, like := maker(t)
	in := folder(t)
	must(t, unix.Mount("glis", in(""), "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(in(""), unix.MNT_DETACH) })
	must(t, os.WriteFile(in("a"), nil, 0o600))
	n, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_UNLIMITED_QUEUE|unix.FAN_NONBLOCK, unix.O_RDWR|unix.O_NOATIME)
	if err != nil {
		testkit.Lacks(t, "fanotify (CONFIG_FANOTIFY)", err, unix.ENOSYS)
	}
	defer unix.Close(n)
	mark := func(how uint, mask uint64, name string) {
		must(t, unix.FanotifyMark(n, unix.FAN_MARK_ADD|how, mask, unix.AT_FDCWD, in(name)))
	}
	mark(0, unix.FAN_CLOSE_WRITE|unix.FAN_EVENT_ON_CHILD, "")
	mark(unix.FAN_MARK_EVICTABLE, unix.FAN_OPEN, "a")
	mark(unix.FAN_MARK_IGNORED_MASK|unix.FAN_MARK_IGNORED_SURV_MODIFY|unix.FAN_MARK_EVICTABLE, unix.FAN_ACCESS, "a")
	mark(unix.FAN_MARK_MOUNT, unix.FAN_OPEN_EXEC, "")
	own, err := like(n)
	must(t, err)
	lines := func(n int) map[string]bool { // their order is that in which marks were made
		out := map[string]bool{}
		for _, line := range strings.Split(watched(t, n), "\n") {
			out[line] = true
		}
		return out
	}
	if got, want := fmt.Sprint(lines(own)), fmt.Sprint(lines(n)); got != want {
		t.Errorf("it watches %s\nlike %s", got, want)
	}
	mark(unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN_EXEC, "")
	if _, err := like(n); !errors.Is(err, ErrUnlike) || !strings.Contains(err.Error(), "whole file system") {
		t.Errorf("a file system: %v", err)
	}
	decides, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	must(t, err)
	defer unix.Close(decides)
	if _, err := like(decides); !errors.Is(err, ErrUnlike) || !strings.Contains(err.Error(), "decides") {
		t.Errorf("one that decides: %v", err)
	}
}

// A fanotify file of somebody without CAP_SYS_ADMIN, who is told less, is like another such one.
func TestFanotifyUnprivileged(t *testing.T) {
	k, like := maker(t)
	n, err := linux.FanotifyInit(unix.FAN_REPORT_FID|unix.FAN_NONBLOCK|linux.FANOTIFY_UNPRIV, unix.O_RDONLY)
	if err != nil {
		testkit.Lacks(t, "fanotify (CONFIG_FANOTIFY)", err, unix.ENOSYS)
	}
	defer unix.Close(n)
	must(t, unix.FanotifyMark(n, unix.FAN_MARK_ADD, unix.FAN_CREATE, unix.AT_FDCWD, folder(t)("")))
	own, err := like(n)
	must(t, err)
	at, err := k.memory.File(own)
	must(t, err)
	is, err := k.groupAt(at, false)
	must(t, err)
	if flags := is.In("fsnotify_group.fanotify_data").U32("fanotify_group_private_data.flags"); flags&linux.FANOTIFY_UNPRIV == 0 {
		t.Errorf("it has flags %#x", flags)
	}
}
