package test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// diesAt runs an engine that dies instead of making a system call, the first one of a
// number. It returns when engine and guardian have ended.
func diesAt(t *testing.T, engine string, trap int, args ...string) {
	t.Helper()
	cmd := exec.Command(engine, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("GLIS_DIES=%d 1", trap))
	var said strings.Builder
	cmd.Stderr = &said
	err := cmd.Run()
	if cmd.ProcessState.ExitCode() >= 0 || strings.Contains(said.String(), "Error (guardian)") {
		t.Fatalf("it was to die: %v\n%s", err, said.String())
	}
}

// stepsOf is how far targets/steps.c is; it fails if that has found an error.
func stepsOf(t *testing.T, dir string) uint64 {
	t.Helper()
	if said, _ := os.ReadFile(filepath.Join(dir, "error")); len(said) > 0 {
		t.Fatalf("the target says: %s", said)
	}
	b, err := os.ReadFile(filepath.Join(dir, "steps"))
	if err != nil || len(b) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(b)
}

func awaitSteps(t *testing.T, dir string, from uint64) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); stepsOf(t, dir) <= from; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it stands at %d", from)
		}
	}
}

// A tree whose dump is complete takes no step more, also if the engine dies before it has
// killed it, so that the guardian does: it would take it once more when it is restored.
func TestKilledCommitted(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e, faulty := glisOnly(t), faultyEngine(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/steps.c"), ".")
	for range 3 {
		awaitSteps(t, p.Dir, stepsOf(t, p.Dir))
		img := testkit.NewDir(t)
		diesAt(t, faulty, unix.SYS_PIDFD_SEND_SIGNAL, "dump", "-t", strconv.Itoa(p.PID), "-D", img)
		testkit.Reap(t, []int{p.PID})
		at := stepsOf(t, p.Dir)
		e.Restore(t, img)
		awaitSteps(t, p.Dir, at)
	}
}
