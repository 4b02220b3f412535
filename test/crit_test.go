package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"glis.dev/glis/image"
	_ "glis.dev/glis/image/proto/schemas"
	"glis.dev/glis/internal/testkit"
)

// critTargets have every sort of image between them.
var critTargets = []string{"threads", "seccomp", "ghosts", "pipes", "fifo", "locks", "memfd", "sysv", "pty", "unixqueue", "tcpqueue", "cow"}

// Others' tools read what Glis writes: go-criu's crit decodes all images but
// those of Glis's own.
func TestCrit(t *testing.T) {
	e := glisOnly(t)
	seen := map[string]bool{}
	for _, x := range targets {
		if !slices.Contains(critTargets, x.name) {
			continue
		}
		t.Run(x.name, func(t *testing.T) {
			p := x.program(t)
			testkit.Compared(t, p, func(t *testing.T, proc *testkit.Proc, n int) {
				if n > 0 {
					return
				}
				dir := testkit.NewDir(t)
				e.Save(t, proc.PID, dir, append([]string{"--leave-running"}, p.DumpArgs...)...)
				for _, name := range decodeAll(t, dir) {
					seen[name] = true
				}
			})
		})
	}
	for _, name := range []string{"inventory", "pstree", "core", "mm", "pagemap", "files", "fdinfo", "fs", "ids", "seccomp", "remap-fpath", "ghost-file", "pipes-data", "fifo-data", "filelocks", "memfd", "ipcns-shm", "tty-info", "tty-data", "sk-queues", "tcp-stream"} {
		if !seen[name] {
			t.Errorf("no %s image was tried", name)
		}
	}
}

// decodeAll decodes all images of a directory, and returns the names of their
// rows.
func decodeAll(t *testing.T, dir string) (rows []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		row, _, ok := image.RowFor(filepath.Base(path))
		if !ok || row.Raw() || strings.HasPrefix(row.Name, "glis-") {
			continue
		}
		decode(t, row, path)
		rows = append(rows, row.Name)
	}
	return rows
}

func decode(t *testing.T, row *image.Row, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	typ, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(row.New().ProtoName()))
	if err != nil {
		t.Fatal(err)
	}
	// go-criu fails on the contents of a deleted file that had none.
	got, err := crit.New(f, nil, "", false, row == image.GhostFile).Decode(typ.New().Interface())
	if err != nil {
		t.Errorf("%s: crit says: %v", filepath.Base(path), err)
	} else if got.Magic == "" {
		t.Errorf("%s: crit knows no such magic", filepath.Base(path))
	}
}
