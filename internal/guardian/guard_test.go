package guardian

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
)

func TestMain(m *testing.M) {
	Main(Hooks{Discard: func(int) error { return nil }})
	os.Exit(m.Run())
}

// An engine leaves no dead guardian behind, which nobody might wait for: the next one,
// be it itself that starts again, would find that number in use.
func TestCloseWaits(t *testing.T) {
	lock, err := netlock.Open()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	g, err := Start(Restore, int(dir.Fd()), lock)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if pid, err := unix.Wait4(g.PID(), nil, linux.WALL|unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("its process is still there to be waited for: %d, %v", pid, err)
	}
}
