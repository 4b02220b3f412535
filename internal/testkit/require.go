package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
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

// KernelMemory fails the test if err says that the kernel's memory can't be read
// (by a program of BPF), or skips it where that is no wonder: without the right
// to, on a kernel that does not describe its types, or if we are told not to. So
// no skip hides a reader that is broken.
func KernelMemory(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if memoryHidden() {
		t.Skip("GLIS_NO_BPF is set: ", err)
	}
	if !capable(unix.CAP_BPF) || !capable(unix.CAP_PERFMON) {
		missing(t, fmt.Sprintf("the kernel's memory is shown to those with CAP_BPF and CAP_PERFMON only (sudo make test): %v", err))
	}
	if _, no := os.Stat("/sys/kernel/btf/vmlinux"); no != nil {
		t.Skip("this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF): ", err)
	}
	t.Fatal("this kernel's memory can be read, and yet: ", err)
}

// NotShown skips the test if Glis was told to go without the kernel's memory (GLIS_NO_BPF),
// and what it said is that something is refused since only that tells it.
func NotShown(t testing.TB, said string) {
	t.Helper()
	for line := range strings.Lines(said) {
		if memoryHidden() && strings.Contains(line, "not supported") && (strings.Contains(line, hidden) || strings.Contains(line, "(CAP_BPF, BTF)")) {
			t.Skip(line)
		}
	}
}

// hidden is what is said of it.
const hidden = "(GLIS_NO_BPF is set)"

func memoryHidden() bool { return os.Getenv("GLIS_NO_BPF") != "" }

// Unwarned returns what was said without the warnings that it can't be looked for something
// in the kernel's memory, where Glis was told to go without.
func Unwarned(said string) string {
	var out strings.Builder
	for line := range strings.Lines(said) {
		if !memoryHidden() || !strings.HasPrefix(line, "Warn") || !strings.Contains(line, hidden) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// capable tells whether this process has a capability.
func capable(c int) bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[c/32].Effective>>(c%32)&1 != 0
}

// Lacks fails the test because of err, or skips it if that is one of the errors
// that a kernel without what is named has for it, or one of those that all have
// for somebody who is not root.
func Lacks(t testing.TB, what string, err error, says ...error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Geteuid() != 0 && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) {
		missing(t, fmt.Sprintf("%s: run it as root (sudo make test): %v", what, err))
	}
	for _, s := range says {
		if errors.Is(err, s) {
			t.Skipf("this kernel lacks %s: %v", what, err)
		}
	}
	t.Fatalf("%s: %v", what, err)
}
