package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// Many files of one directory are found from there, few by their paths; one that is
// missing is told by its whole path either way; and nothing stays open.
func TestDirectories(t *testing.T) {
	for _, count := range []int{2, manyFiles + 5} {
		dir := t.TempDir()
		var set directories
		var nodes []*regularNode
		for i := range count {
			name := filepath.Join(dir, fmt.Sprint("f", i))
			if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, &regularNode{name: name, dir: set.of(name)})
		}
		if err := os.Remove(nodes[1].name); err != nil {
			t.Fatal(err)
		}
		for i, n := range nodes {
			if d, err := n.Create(context.Background(), &plan.Env{}); i == 1 {
				mustFail(t, err, nodes[1].name+": the file is missing")
			} else {
				checkFile(t, d, err, n.name)
			}
			if i == 0 && (n.dir.own != nil) != (count >= manyFiles) {
				t.Errorf("the directory of %d files is open: %v", count, n.dir.own != nil)
			}
		}
		if d := nodes[0].dir.own; d != nil && d.Int() >= 0 || set.open.Load() != 0 {
			t.Error("the directory stays open")
		}
	}
}

func checkFile(t *testing.T, d *fd.FD, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got := make([]byte, 256)
	if n, err := unix.Pread(d.Int(), got, 0); err != nil || string(got[:n]) != want {
		t.Errorf("it has %q, %v; want %q", got[:max(n, 0)], err, want)
	}
}

// A root directory is in none, and a directory that is open nowhere does no harm.
func TestNoDirectory(t *testing.T) {
	var set directories
	if d := set.of("/"); d != nil {
		t.Errorf("/ is in %q", d.name)
	}
	var d *directory
	if at, name := d.place("/"); at != unix.AT_FDCWD || name != "/" {
		t.Errorf("it is %q from %d", name, at)
	}
	d.done()
	d.close()
}
