package test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// jobEnv says to a process of TestTorture that it is one of several: which, of how
// many, and the engine that fails.
const jobEnv = "GLIS_TORTURE_JOB"

// job is a share of the calls that are to fail.
type job struct {
	number, of int
	faulty     string // the engine that fails
}

// jobOf is the share of this process: all, unless it was started by another one.
func jobOf(t *testing.T) (j job) {
	t.Helper()
	if os.Getenv(jobEnv) == "" {
		return job{of: 1}
	}
	if _, err := fmt.Sscanf(os.Getenv(jobEnv), "%d %d %s", &j.number, &j.of, &j.faulty); err != nil {
		t.Fatal(err)
	}
	// Its namespaces are new, see share.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	testkit.Here().Up(t, "lo")
	return j
}

// share has processes of their own, one for each CPU, let their share of the calls
// fail: each in namespaces where nobody else has its PIDs, ports and rules.
func share(t *testing.T, engine, faulty string) {
	t.Helper()
	run := "^TestTorture$"
	if _, some, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); ok {
		run += "/" + some
	}
	n := runtime.NumCPU()
	var jobs sync.WaitGroup
	for i := range n {
		cmd := exec.Command("/proc/self/exe", "-test.run="+run, "-test.v", "-test.timeout=0")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s", jobEnv, i, n, faulty), testkit.EngineEnv+"="+engine)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		jobs.Go(func() {
			runtime.LockOSThread() // it ends with the thread that started it
			defer runtime.UnlockOSThread()
			if err := cmd.Run(); err != nil {
				t.Errorf("process %d of %d: %v", i, n, err)
			}
		})
	}
	jobs.Wait()
}
