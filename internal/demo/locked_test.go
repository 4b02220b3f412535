package demo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis"
	"glis.dev/glis/internal/testkit"
)

// save dumps the server and waits for its end.
func (v *victim) save(dir string) {
	v.t.Helper()
	if err := v.run(-1, 0, "dump", "-t", strconv.Itoa(v.pid), "-D", dir); err != nil {
		v.t.Fatal(err)
	}
	testkit.Reap(v.t, []int{v.pid})
	v.dir = dir
}

// wake restores the server.
func (v *victim) wake(dir string) {
	v.t.Helper()
	if err := v.run(-1, 0, "restore", "-d", "-D", dir); err != nil {
		v.t.Fatal(err)
	}
}

func (v *victim) wantTables(n int, when string) {
	v.t.Helper()
	if got := tables(v.t); len(got) != n {
		v.t.Errorf("%s: tables %v, want %d", when, got, n)
	}
}

// refuser is an Observer that has a restore fail when the tree is whole.
type refuser struct{}

var errRefused = errors.New("refused")

func (refuser) Stage(string) {}
func (refuser) Notify(_ context.Context, p glis.Point, _ int) error {
	if p == glis.PostRestore {
		return errRefused
	}
	return nil
}

// What a dump locks stays locked until a restore succeeds, or unlock is called.
func TestLockStays(t *testing.T) {
	v := newVictim(t)
	dir := testkit.NewDir(t)
	v.save(dir)
	v.wantTables(1, "after the dump")
	if _, err := glis.Restore(t.Context(), glis.RestoreOptions{ImagesDir: dir, TCPEstablished: true, Observer: refuser{}}); !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	v.wantTables(1, "after a restore that failed")
	if err := unix.Kill(v.pid, 0); err != unix.ESRCH {
		t.Errorf("the server is there after a restore that failed: %v", err)
	}
	v.verbs("lock", "lock") // twice is as good as once
	v.wake(dir)
	v.unharmed()
	v.verbs("unlock", "lock", "unlock", "unlock")
	v.unharmed()
}

// verbs locks and unlocks.
func (v *victim) verbs(all ...string) {
	v.t.Helper()
	for _, verb := range all {
		if out, err := exec.Command(v.engine, verb, v.dir).CombinedOutput(); err != nil || !strings.Contains(string(out), "101 connections") {
			v.t.Errorf("%s: %v: %s", verb, err, out)
		}
		v.wantTables(map[string]int{"lock": 1}[verb], "after "+verb)
	}
}

func TestLockNonsense(t *testing.T) {
	testkit.RequireRoot(t)
	engine := testkit.BuildGlis(t, "../../cmd/glis")
	for _, verb := range []string{"lock", "unlock"} {
		for _, dir := range []string{t.TempDir(), "/nonexistent"} {
			out, err := exec.Command(engine, verb, dir).CombinedOutput()
			if err == nil || !strings.HasPrefix(string(out), "Error ("+verb+"): ") || strings.Count(string(out), "\n") != 1 {
				t.Errorf("%s %s: %v: %q", verb, dir, err, out)
			}
		}
	}
}

// A damaged checkpoint is not locked, but what is locked can always be let
// through.
func TestLockDamaged(t *testing.T) {
	v := newVictim(t)
	dir := testkit.NewDir(t)
	v.save(dir)
	files := filepath.Join(dir, "files.img")
	whole, err := os.ReadFile(files)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(files, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says := func(verb, want string) {
		out, err := exec.Command(v.engine, verb, dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %q", verb, err, out)
		}
	}
	write(whole[:len(whole)/2])
	says("lock", "file is cut")
	v.wantTables(1, "after a lock that failed")
	write(whole)
	v.wake(dir)
	v.unharmed()
	v.verbs("lock")
	write(whole[:len(whole)/2])
	says("unlock", "packets are let through, but")
	v.wantTables(0, "after unlock")
	v.unharmed()
}

// setAddress gives an alias of the loopback interface an address, or takes it
// away, in the network namespace of this thread.
func setAddress(t *testing.T, name string, addr [4]byte, up bool) {
	t.Helper()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	if up {
		if err := ifr.SetInet4Addr(addr[:]); err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlIfreq(s, unix.SIOCSIFADDR, ifr); err != nil {
			t.Fatal(err)
		}
		ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	} else {
		ifr.SetUint16(0)
	}
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Fatal(err)
	}
}

// A restore on a host without the address of a connection says which one, and
// where it was, before there is a process; with the address it succeeds.
func TestAddressMissing(t *testing.T) {
	testkit.RequireRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	setAddress(t, "lo", [4]byte{127, 0, 0, 1}, true)
	at := [4]byte{10, 99, 0, 1}
	setAddress(t, "lo:9", at, true)
	v := newVictimAt(t, "10.99.0.1:0")
	dir := testkit.NewDir(t)
	v.save(dir)
	setAddress(t, "lo:9", at, false)
	err := v.run(-1, 0, "restore", "-d", "-D", dir)
	if err == nil || !strings.Contains(err.Error(), "doesn't have its address 10.99.0.1 (it was on lo)") {
		t.Errorf("without its address: %v", err)
	}
	if err := unix.Kill(v.pid, 0); err != unix.ESRCH {
		t.Errorf("there is a process: %v", err)
	}
	v.wantTables(1, "after a restore that failed")
	setAddress(t, "lo:9", at, true)
	v.wake(dir)
	v.unharmed()
}
