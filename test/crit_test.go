package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pidns"
	lib "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"glis.dev/glis/image"
	_ "glis.dev/glis/image/proto/schemas"
	"glis.dev/glis/internal/testkit"
)

// critTargets have every sort of image between them.
var critTargets = []string{"tree", "threads", "seccomp", "ghosts", "pipes", "fifo", "locks", "memfd", "sysv", "pty", "unixqueue", "unixwaiting", "udp", "netlink", "backlog", "tcpqueue", "cow"}

// critImages are the images that they must have between them.
var critImages = []string{"inventory", "pstree", "core", "mm", "pagemap", "files", "fdinfo", "fs", "ids", "seccomp", "remap-fpath", "ghost-file", "pipes-data", "fifo-data", "filelocks", "memfd", "ipcns-shm", "tty-info", "tty-data", "sk-queues", "tcp-stream", "stats-dump", "stats-restore", "timens", "pagemap-shmem",
	"glis-manifest", "glis-sockets", "glis-identities", "glis-waiting", "glis-datagrams", "glis-queued", "glis-addresses", "glis-tcp-waiting"}

// Others' tools read what Glis writes: go-criu's crit decodes all images, and
// finds in them what it tells of processes, files, sockets and memory. That is
// what checkpointctl shows; that and criu's crit read them, too, where they are.
func TestCrit(t *testing.T) {
	e := glisOnly(t)
	seen, asked := map[string]bool{}, map[string]bool{}
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
				explore(t, dir, proc.PID, p.Argv)
				critDecodes(t, dir, asked)
				if x.name == "tree" {
					checkpointctlInspects(t, dir, "tree")
					again := testkit.NewDir(t)
					e.Save(t, proc.PID, again, p.DumpArgs...)
					e.Restore(t, again, p.RestoreArgs...)
					for _, name := range decodeAll(t, again) {
						seen[name] = true
					}
				}
			})
		})
	}
	for _, name := range critImages {
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
	stats, _ := filepath.Glob(filepath.Join(dir, "stats-*"))
	for _, path := range append(names, stats...) {
		base := filepath.Base(path)
		if strings.HasPrefix(base, "glis-") {
			rows = append(rows, decodeOwn(t, path))
			continue
		}
		row, _, ok := image.RowFor(base)
		switch {
		case !ok:
			t.Errorf("%s has no row", base)
		case !row.Raw():
			decode(t, row, path)
			rows = append(rows, row.Name)
		}
	}
	return rows
}

func decode(t *testing.T, row *image.Row, path string) {
	t.Helper()
	typ, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(row.New().ProtoName()))
	if err != nil {
		t.Fatal(err)
	}
	// go-criu fails on the contents of a deleted file that had none.
	read(t, path, typ.New().Interface(), row == image.GhostFile)
}

// decodeOwn decodes an image of Glis's own, which says what it is.
func decodeOwn(t *testing.T, path string) string {
	t.Helper()
	name := strings.TrimSuffix(filepath.Base(path), ".img")
	got := read(t, path, &pidns.PidnsEntry{}, false)
	if len(got.Entries) < 2 || got.Entries[0].Message.(*pidns.PidnsEntry).GetExtKey() != name {
		t.Errorf("%s: crit reads %v", name, got)
	}
	return name
}

func read(t *testing.T, path string, m lib.Message, noPayload bool) *crit.CriuImage {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := crit.New(f, nil, "", false, noPayload).Decode(m)
	if err != nil {
		t.Fatalf("%s: crit says: %v", filepath.Base(path), err)
	}
	if got.Magic == "" {
		t.Errorf("%s: crit knows no such magic", filepath.Base(path))
	}
	return got
}

// explore asks go-criu for what checkpointctl shows.
func explore(t *testing.T, dir string, pid int, argv []string) {
	t.Helper()
	c := crit.New(nil, nil, dir, false, false)
	root, err := c.ExplorePs()
	if err != nil {
		t.Fatal(err)
	}
	if int(root.PID) != pid {
		t.Errorf("the root is %d, not %d", root.PID, pid)
	}
	files, err := c.ExploreFds()
	if err != nil || len(files) == 0 {
		t.Errorf("files: %v, %v", files, err)
	}
	if _, err := c.ExploreSk(); err != nil {
		t.Errorf("sockets: %v", err)
	}
	if maps, err := c.ExploreMems(); err != nil || len(maps) == 0 {
		t.Errorf("mappings: %v, %v", maps, err)
	}
	if rss, err := c.ExploreRss(); err != nil || len(rss) == 0 {
		t.Errorf("pages: %v, %v", rss, err)
	}
	if stats, err := crit.GetDumpStats(dir); err != nil || stats.GetPagesWritten() == 0 {
		t.Errorf("statistics: %v, %v", stats, err)
	}
	exploreMemory(t, dir, root, strings.Join(argv, "\x00"))
}

// exploreMemory reads the arguments and the environment of every task from its
// pages. Those that a task has from its parent are zeros.
func exploreMemory(t *testing.T, dir string, ps *crit.PsTree, want string) {
	t.Helper()
	if crit.TaskState(ps.Core.GetTc().GetTaskState()).IsAliveOrStopped() {
		m, err := crit.NewMemoryReader(dir, ps.PID, 4096)
		if err != nil {
			t.Fatal(err)
		}
		args, err := m.GetPsArgs()
		if err != nil {
			t.Fatalf("arguments of %d: %v", ps.PID, err)
		}
		if got := args.String(); !strings.HasPrefix(got, want) && strings.Trim(got, "\x00") != "" {
			t.Errorf("arguments of %d: %q, want %q", ps.PID, got, want)
		}
		if _, err := m.GetPsEnvVars(); err != nil {
			t.Errorf("environment of %d: %v", ps.PID, err)
		}
	}
	for _, child := range ps.Children {
		exploreMemory(t, dir, child, want)
	}
}
