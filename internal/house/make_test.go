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
	if text := strings.TrimSpace(string(out)); strings.Contains(text, "\n") || !strings.Contains(text, "build -trimpath "+testkit.LinkFlags+" -o bin/glis ./cmd/glis") {
		t.Errorf("make alone would do %q", text)
	}
}
