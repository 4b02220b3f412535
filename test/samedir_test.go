package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// A dump that began in an empty directory removes all images of it if it fails: no
// other one may have written some there meanwhile, whose tree is gone.
func TestSameDirectory(t *testing.T) {
	e := glisOnly(t)
	first, second := ticking(t), ticking(t)
	img, dir := testkit.NewDir(t), testkit.NewDir(t)
	script, said := filepath.Join(dir, "script"), filepath.Join(dir, "said")
	text := fmt.Sprintf("#!%s\n[ $CRTOOLS_SCRIPT_ACTION != pre-dump ] || %s dump -t %d -D %s >%s 2>&1 || echo refused >>%s\n",
		testkit.RequireProgram(t, "sh", "dash"), e.Path, second.PID, img, said, said)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := e.Run(t, "dump", "-t", strconv.Itoa(first.PID), "-D", img, "--leave-running", "--action-script", script); r.Code != 0 {
		t.Error(r.Stderr)
	}
	b, err := os.ReadFile(said)
	if err != nil || !strings.Contains(string(b), "another dump is writing into it") || !strings.HasSuffix(string(b), "\nrefused\n") {
		t.Errorf("the second dump says %q, %v", b, err)
	}
	for _, p := range []*testkit.Proc{first, second} {
		testkit.Unharmed(t, p.PID)
		awaitCount(t, p, 3)
	}
	if r := e.Run(t, "verify", img); r.Code != 0 {
		t.Error(r.Stderr)
	}
}
