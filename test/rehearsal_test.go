package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// mistakenEngine builds an engine whose images of sockets contradict each other: it
// says of messages that they came from a file that there isn't.
func mistakenEngine(t *testing.T) testkit.Engine {
	t.Helper()
	source, err := filepath.Abs("../internal/kind/socket/unix/queue.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const right = "x.Sender, x.Name = &m.sender.ID, nil\n"
	if bytes.Count(text, []byte(right)) != 1 {
		t.Fatalf("%s is not as this test knows it: there should be %q", source, right)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, "queue.go")
	overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	text = bytes.Replace(text, []byte(right), []byte("x.Sender, x.Name = proto.Uint32(m.sender.ID+1000), nil\n"), 1)
	for name, b := range map[string][]byte{changed: text, filepath.Join(dir, "overlay.json"): overlay} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	engine := filepath.Join(dir, "glis")
	cmd := exec.Command("go", "build", testkit.LinkFlags, "-overlay", filepath.Join(dir, "overlay.json"), "-o", engine, "../cmd/glis")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build an engine that is mistaken: %v\n%s", err, msg)
	}
	return testkit.NewEngine(t, engine)
}

// A dump whose images no restore could make a tree of fails before it ends the tree,
// which goes on as it was; nothing of it stays.
func TestRehearsal(t *testing.T) {
	glisOnly(t)
	e := mistakenEngine(t)
	for _, x := range targets {
		if x.name != "unixdgram" {
			continue
		}
		p := x.program(t)
		p.Generations = 1
		testkit.Compared(t, p, func(t *testing.T, proc *testkit.Proc, n int) {
			for _, more := range [][]string{nil, {"--leave-running"}} {
				img := testkit.NewDir(t)
				refused(t, e, append([]string{"dump", "-t", strconv.Itoa(proc.PID), "-D", img}, more...), "a restore could not make the tree again", "its sender")
				testkit.Unharmed(t, proc.PID)
				if left := images(t, img); len(left) > 0 {
					t.Errorf("images are left: %v", left)
				}
			}
		})
	}
}
