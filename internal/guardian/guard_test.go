package guardian

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

func TestMain(m *testing.M) {
	Main(Hooks{Discard: func(int) error { return nil }})
	unbrakes()
	tellsLocked()
	os.Exit(testkit.Main(m))
}

// started is a guardian that has nothing to guard yet.
func started(t *testing.T, what Role, keep ...int) *Guard {
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
	g, err := Start(what, int(dir.Fd()), lock, keep...)
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

// What the guardian is to keep open it has until its end.
func TestKeeps(t *testing.T) {
	path := t.TempDir()
	open := func() int {
		n, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	mine, other := open(), open()
	defer unix.Close(other)
	if err := unix.Flock(mine, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	g := started(t, Dump, mine)
	if err := errors.Join(g.Ready(), unix.Close(mine)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(other, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("while the guardian lives: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(other, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("after its end: %v", err)
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

// tellsLockedEnv has a process of this program stop and tell, when it goes on, whether
// packets of lockedFlows are held back.
const tellsLockedEnv = "GLIS_TEST_TELLS_LOCKED"

var lockedAt = netip.MustParseAddrPort("127.0.0.1:7")

var lockedFlows = []netlock.Flow{{Protocol: unix.IPPROTO_TCP, Local: lockedAt, Remote: lockedAt}}

func tellsLocked() {
	if os.Getenv(tellsLockedEnv) == "" {
		return
	}
	if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
		os.Exit(1)
	}
	if name, err := netlock.HeldBy(lockedFlows); name != "" || err != nil {
		fmt.Fprintln(os.Stderr, "held back by", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The engine of a restore dies when the tree is to live: nobody of it goes on while its
// packets are held back.
func TestGoesOnUnlocked(t *testing.T) {
	g := started(t, Restore)
	if err := g.Lock().Hold("CRIU-glis-test-released", lockedFlows); err != nil {
		testkit.Lacks(t, "nf_tables", err, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), tellsLockedEnv+"=1")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WSTOPPED, nil); err != nil {
		t.Fatal(err)
	}
	// Many more signals, so that the guardian does not end at once.
	braked := slices.Repeat([]proc.PID{proc.PID(cmd.Process.Pid)}, 100000)
	if err := errors.Join(g.Brake(braked...), g.Phase(Released), g.GiveUp(), cmd.Wait()); err != nil {
		t.Error(err)
	}
}
