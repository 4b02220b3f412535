package test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"glis.dev/glis/image"
)

// critDecodes has the program crit, where it is installed, decode an image of each
// row that it has not seen yet. One whose images it has no word for is Glis's own.
func critDecodes(t *testing.T, dir string, seen map[string]bool) {
	t.Helper()
	program, err := exec.LookPath("crit")
	if err != nil {
		return
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		sort := filepath.Base(path)
		if row, _, ok := image.RowFor(sort); ok && row.Raw() {
			continue
		} else if ok {
			sort = row.Name
		}
		if seen[sort] {
			continue
		}
		seen[sort] = true
		out, err := exec.Command(program, "decode", "-i", path).Output()
		got := struct{ Magic string }{}
		if err != nil || json.Unmarshal(out, &got) != nil || got.Magic == "" {
			t.Errorf("crit decode -i %s: %v\n%s", filepath.Base(path), err, out)
		}
	}
}

// checkpointctlInspects has checkpointctl, where it is installed, show all of a
// checkpoint, as a container engine wraps it up.
func checkpointctlInspects(t *testing.T, dir, comm string) {
	t.Helper()
	program, err := exec.LookPath("checkpointctl")
	if err != nil {
		return
	}
	archive := filepath.Join(t.TempDir(), "checkpoint.tar")
	if err := os.WriteFile(archive, wrapped(t, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"inspect", "--all", archive}, {"memparse", archive}} {
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), comm) {
			t.Errorf("checkpointctl %v: %v, and %q should be there:\n%s", args, err, comm, out)
		}
	}
}

// wrapped is a checkpoint as podman stores it.
func wrapped(t *testing.T, dir string) []byte {
	t.Helper()
	files := map[string][]byte{
		"config.dump": []byte(`{"id": "0", "name": "tree", "ociRuntime": "runc"}`),
		"spec.dump":   []byte(`{"ociVersion": "1.0.0", "annotations": {"io.container.manager": "libpod"}}`),
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files["checkpoint/"+e.Name()] = b
		if strings.HasPrefix(e.Name(), "stats-") {
			files[e.Name()] = b
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "checkpoint/", Mode: 0o700}); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
