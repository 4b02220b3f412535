package house

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// make alone builds, as README says, and needs no root.
func TestMake(t *testing.T) {
	c := exec.Command(testkit.RequireProgram(t, "make", "make"), "-n")
	c.Dir, c.Env = "../..", []string{"PATH=" + os.Getenv("PATH")} // not as a part of make test
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("make -n: %v: %s", err, out)
	}
	build, copied, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if !strings.HasSuffix(build, "build -trimpath "+testkit.LinkFlags+" -o bin/linked/glis ./cmd/glis") ||
		!strings.HasPrefix(copied, "cmp -s bin/linked/glis bin/glis || { ") || strings.Count(copied, "\n") > 1 {
		t.Errorf("make alone would do %q", out)
	}
}
