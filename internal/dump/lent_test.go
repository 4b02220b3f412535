package dump

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

// dies is the environment variable by which this program is an engine that
// dies when it has changed an option of the socket that is its descriptor 3. It
// names the directory of the dump.
const dies = "GLIS_TEST_DIES"

func die(images string) error {
	lock, err := netlock.Open()
	if err != nil {
		return err
	}
	dir, err := os.Open(images)
	if err != nil {
		return err
	}
	g := &guard{brake: func(*scan.File) error { return nil }}
	if g.Guard, err = guardian.Start(guardian.Dump, int(dir.Fd()), lock); err != nil {
		return err
	}
	f := &scan.File{Task: &scan.Task{}, FD: 3, Within: &scan.File{}}
	if err := f.Stat.At(3, ""); err != nil {
		return err
	}
	if err := g.Back(f, linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_PASSCRED, Value: 0}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(3, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return err
	}
	return unix.Kill(os.Getpid(), unix.SIGKILL)
}

// A socket that no task has as a descriptor, only a queue, gets its options
// back if the engine dies.
func TestEngineDiesWithReceived(t *testing.T) {
	testkit.RequireRoot(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	socket := os.NewFile(uintptr(pair[0]), "socket")
	defer socket.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	var said bytes.Buffer
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = append(os.Environ(), dies+"="+t.TempDir()), &said, []*os.File{socket}
	_ = cmd.Run() // it is killed; its guardian has the pipe that is read here
	if said.Len() > 0 {
		t.Fatal(said.String())
	}
	if on, err := unix.GetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED); err != nil || on != 0 {
		t.Errorf("SO_PASSCRED is %d, %v", on, err)
	}
}
