package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// Of many files that are opened together each is the one it was, at its place, and
// each that can't be opened is told by name, once, with why: the others are there.
// So it is where there are no rings, or they have no room.
func TestTogether(t *testing.T) {
	long := strings.Repeat("n", 240)
	for _, c := range []struct {
		name, begin string
		count, from int
	}{{"rings", "f", 60, 1}, {"no rings", "f", 60, 1 << 20}, {"long names", long, 60, 1}, {"few", "f", manyFiles - 1, 1}} {
		t.Run(c.name, func(t *testing.T) {
			defer func(n int) { manyTogether = n }(manyTogether)
			manyTogether = c.from
			nodes, wrong := variousFiles(t, filepath.Join(t.TempDir(), c.begin), c.count)
			env := &plan.Env{}
			defer env.Rings.Close()
			told := map[int]bool{}
			nodes[0].CreateAll(context.Background(), env, asNodes(nodes), func(i int, d *fd.FD, err error) {
				name := nodes[i].name
				if told[i] {
					t.Errorf("%s is told of twice", name)
				}
				told[i] = true
				if want := wrong[i]; want != "" {
					mustFail(t, err, name+": ", want)
					return
				}
				if at, seek := unix.Seek(d.Int(), 0, unix.SEEK_CUR); seek != nil || at != int64(nodes[i].pos) {
					t.Errorf("%s is at %d, %v", name, at, seek)
				}
				checkFile(t, d, err, filepath.Base(name))
			})
			if len(told) != len(nodes) {
				t.Errorf("%d of %d files were told of", len(told), len(nodes))
			}
		})
	}
}

// variousFiles are files whose names begin so, and what is wrong with some of them.
func variousFiles(t *testing.T, begin string, count int) ([]*regularNode, map[int]string) {
	t.Helper()
	var set directories
	var nodes []*regularNode
	for i := range count {
		name := begin + fmt.Sprint(i)
		must(t, os.WriteFile(name, []byte(filepath.Base(name)), 0o600))
		nodes = append(nodes, &regularNode{name: name, pos: uint64(i % 3), mode: unix.S_IFREG | 0o600, dir: set.of(name)})
	}
	must(t, os.Remove(nodes[0].name))
	nodes[17].size = 10_000
	must(t, os.Chmod(nodes[18].name, 0o640))
	must(t, os.Remove(nodes[20].name))
	must(t, unix.Mkfifo(nodes[20].name, 0o600))
	nodes[30].flags = unix.O_DIRECTORY
	return nodes, map[int]string{
		0: "the file is missing", 17: "shorter than the 10000", 18: "its mode is 0640 now", 20: "it is a FIFO now", 30: "not a directory",
	}
}

func asNodes(all []*regularNode) []plan.Node {
	out := make([]plan.Node, len(all))
	for i, n := range all {
		out[i] = n
	}
	return out
}
