// Package testkit runs programs, saves and restores them with an engine given
// by its command line, and compares what they see before and after.
//
// It knows the engine only as a binary with criu's grammar, so the same tests
// run against Glis and against CRIU.
package testkit

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// cacheEnv names the folder that holds what one test run has compiled.
const cacheEnv = "GLIS_TEST_CACHE"

// Main runs the tests of a package that uses the kit and returns the exit
// code for os.Exit.
//
// It makes the test process a child subreaper (prctl(2), Linux 3.4): the tasks
// of a dumped tree become its children when their parents die, and a restored
// tree becomes its child when the engine leaves. Without that, PIDs would stay
// taken by zombies nobody waits for.
func Main(m *testing.M) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintf(os.Stderr, "testkit: become child subreaper: %v\n", err)
		return 1
	}
	// Whatever the shell left open in us must not become part of every target.
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintf(os.Stderr, "testkit: close_range: %v\n", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "glis-cache-")
	if err != nil {
		fmt.Fprintf(os.Stderr, "testkit: %v\n", err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Targets that drop root still have to read their own executable.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintf(os.Stderr, "testkit: %v\n", err)
		return 1
	}
	if err := os.Setenv(cacheEnv, dir); err != nil {
		fmt.Fprintf(os.Stderr, "testkit: %v\n", err)
		return 1
	}
	return m.Run()
}
