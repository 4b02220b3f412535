package testkit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Leased returns a program of which the execution takes as long as it is not let, in a
// folder of its own: its interpreter has a lease, and who executes it waits in the
// kernel (WaitsToExecute) where nobody can seize one of its process. It does not end.
func Leased(t testing.TB) (program string, let func()) {
	t.Helper()
	at := t.TempDir()
	tail, err := os.ReadFile("/usr/bin/tail")
	if err != nil {
		t.Fatal(err)
	}
	interpreter, program := filepath.Join(at, "interpreter"), filepath.Join(at, "script")
	if err := errors.Join(os.WriteFile(interpreter, tail, 0o700), os.WriteFile(program, []byte("#!"+interpreter+" -f\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(interpreter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases in %s: %v", at, err)
	}
	return program, func() {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
			t.Error(err)
		}
	}
}

// WaitsToExecute is where in the kernel (/proc/PID/wchan) who executes it waits.
const WaitsToExecute = "__break_lease"
