package dump

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

func startGuardian(t *testing.T, images string) *guardian.Guard {
	t.Helper()
	testkit.RequireRoot(t)
	lock, err := netlock.Open()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(images)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	g, err := guardian.Start(guardian.Dump, int(dir.Fd()), lock)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// What an engine that lives could not take back, the guardian does.
func TestGiveUp(t *testing.T) {
	images := t.TempDir()
	left := filepath.Join(images, "core-1.img")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGuardian(t, images)
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	var st unix.Stat_t
	if err := unix.Fstat(s, &st); err != nil {
		t.Fatal(err)
	}
	passcred := linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_PASSCRED}
	if err := g.Option(guardian.Option{PID: proc.PID(os.Getpid()), FD: int32(s), Inode: st.Ino, SockOpt: passcred}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	if err := g.GiveUp(); err != nil {
		t.Fatal(err)
	}
	if on, err := unix.GetsockoptInt(s, unix.SOL_SOCKET, unix.SO_PASSCRED); err != nil || on != 0 {
		t.Errorf("SO_PASSCRED is %d, %v", on, err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("an image is left: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// A tree whose checkpoint is complete is ended by the guardian if the engine
// can't.
func TestGiveUpCommitted(t *testing.T) {
	images := t.TempDir()
	kept := filepath.Join(images, "core-1.img")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGuardian(t, images)
	target := exec.Command("sleep", "1000")
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	dir, err := proc.Open(proc.PID(target.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	stat, err := dir.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Task(guardian.Task{PID: proc.PID(target.Process.Pid), Start: stat.StartTime}); err != nil {
		t.Fatal(err)
	}
	if err := g.Phase(guardian.Committed); err != nil {
		t.Fatal(err)
	}
	if err := g.GiveUp(); err != nil {
		t.Fatal(err)
	}
	_ = target.Wait()
	if ws := target.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %#x", ws)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("an image of a complete checkpoint: %v", err)
	}
}
