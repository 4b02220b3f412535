package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Version is a kernel release as major and minor number.
type Version struct{ Major, Minor int }

// String returns the version as uname(1) would begin it.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Feature is something a test needs that not every kernel has.
type Feature struct {
	Name  string       // what the test log calls it
	Since Version      // first mainline release that has it
	Probe func() error // nil if it works here
}

// Kernel returns the running kernel's release (uname(2)).
func Kernel(t testing.TB) Version {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatalf("uname: %v", err)
	}
	v, err := parseRelease(unix.ByteSliceToString(u.Release[:]))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// parseRelease reads the first two numbers of a kernel release.
func parseRelease(s string) (Version, error) {
	var v Version
	if _, err := fmt.Sscanf(s, "%d.%d", &v.Major, &v.Minor); err != nil {
		return v, fmt.Errorf("kernel release %q: want MAJOR.MINOR…: %w", s, err)
	}
	return v, nil
}

// Require skips the test if the feature does not work here, and fails it if
// this kernel is new enough to have it: a skip must not hide a broken probe.
func Require(t testing.TB, f Feature) {
	t.Helper()
	err := f.Probe()
	if err == nil {
		return
	}
	if have := Kernel(t); !have.Less(f.Since) {
		t.Fatalf("%s does not work on %s though it is there since %s: %v", f.Name, have, f.Since, err)
	}
	t.Skipf("%s needs Linux %s: %v", f.Name, f.Since, err)
}

// RequireRoot skips the test without root, and fails it in CI.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	missing(t, "this test saves and restores processes: run it as root (sudo make test)")
}

// RequireProgram skips the test, naming the Debian package to install, if the
// program is not in PATH, and fails it in CI. It returns the program's path.
func RequireProgram(t testing.TB, name, debPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, fmt.Sprintf("%s is not in PATH: apt-get install %s", name, debPackage))
	}
	return path
}

// missing skips, except in CI, where everything is expected to be there.
func missing(t testing.TB, msg string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(msg)
	}
	t.Skip(msg)
}
