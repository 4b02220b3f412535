package guardian

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/testkit"
)

func TestMain(m *testing.M) {
	Main(Hooks{Discard: func(int) error { return nil }})
	os.Exit(testkit.Main(m))
}

// started is a guardian that has nothing to guard yet.
func started(t *testing.T, what Role) *Guard {
	t.Helper()
	lock, err := netlock.Open()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	g, err := Start(what, int(dir.Fd()), lock)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// An engine leaves no dead guardian behind, which nobody might wait for: the next one,
// be it itself that starts again, would find that number in use.
func TestCloseWaits(t *testing.T) {
	g := started(t, Restore)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if pid, err := unix.Wait4(g.PID(), nil, linux.WALL|unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("its process is still there to be waited for: %d, %v", pid, err)
	}
}

// The engine dies after it has let a tree go that is left stopped, before its images are
// whole: nobody could unlock its connections any more.
func TestUnlocksThawed(t *testing.T) {
	g := started(t, Dump)
	const name = "CRIU-glis-test-thawed"
	at := netip.MustParseAddrPort("127.0.0.1:9")
	flows := []netlock.Flow{{Protocol: unix.IPPROTO_TCP, Local: at, Remote: at}}
	held := func() string {
		t.Helper()
		name, err := netlock.HeldBy(flows)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	if got := held(); got != "" {
		t.Fatalf("table %s is there already", got)
	}
	if err := errors.Join(g.Kept(name), netlock.Keep(name, flows)); err != nil {
		testkit.Lacks(t, "nf_tables", err, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP)
		t.Fatal(err)
	}
	if got := held(); got != name {
		t.Errorf("it is held by table %q, want %s", got, name)
	}
	if err := errors.Join(g.Phase(Thawed), g.GiveUp()); err != nil {
		t.Error(err)
	}
	if got := held(); got != "" {
		t.Errorf("table %s is left", got)
	}
}
