package test

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// Who dumps a tree whose session has its leader outside is told what its restore needs.
func TestShellJobTold(t *testing.T) {
	e := glisOnly(t)
	c := exec.Command("sleep", "1000") // in the session of the test
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	for _, given := range []bool{false, true} {
		args := []string{"dump", "-t", strconv.Itoa(c.Process.Pid), "-D", testkit.NewDir(t), "--leave-running"}
		if given {
			args = append(args, "--shell-job")
		}
		r := e.Run(t, args...)
		if told := strings.Contains(r.Stderr, "a restore needs --shell-job"); r.Code != 0 || told == given {
			t.Errorf("%q: exit status %d, %s", args, r.Code, r.Stderr)
		}
	}
}
