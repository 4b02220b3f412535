package file

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

// A mount is one of the tree's, of another process's namespace, or of none.
func TestMountedFor(t *testing.T) {
	testkit.RequireRoot(t)
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()         //nolint:errcheck // it is killed
	defer cmd.Process.Kill() //nolint:errcheck // it is there
	dir, err := proc.Open(proc.PID(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	theirs, err := proc.Mountinfo(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := self(t)
	own, err := proc.Mountinfo(g.task.Dir)
	if err != nil {
		t.Fatal(err)
	}
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fs)
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mount)
	var x unix.Statx_t
	if err := unix.Statx(mount, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mount uint64
		want  string
	}{{uint64(own[0].ID), ofTree}, {uint64(theirs[0].ID), fmt.Sprintf("process %d", cmd.Process.Pid)}, {x.Mnt_id, ""}} {
		if got, err := mountedFor(g.task, tt.mount); err != nil || got != tt.want {
			t.Errorf("mount %d: %q, %v, want %q", tt.mount, got, err, tt.want)
		}
	}
}
