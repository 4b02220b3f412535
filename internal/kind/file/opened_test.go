package file

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// What a task may open itself has nothing but its name, and is known to be a regular file.
func TestOwnable(t *testing.T) {
	defer func(n int) { manyTogether = n }(manyTogether)
	manyTogether = 1
	nodes, wrong := variousFiles(t, filepath.Join(t.TempDir(), "f"), 60)
	nodes[0].Look()()
	for i, n := range nodes {
		how, ok := n.Opening()
		if known := i != 0 && i != 20; ok != known || !n.Ownable() {
			t.Errorf("%s can be opened: %v (%s)", n.name, ok, wrong[i])
		}
		if ok && (how.Name != filepath.Base(n.name) || how.Flags&unix.O_CLOEXEC != 0 || how.Pos != n.pos) {
			t.Errorf("%s is opened by %+v", n.name, how)
		}
	}
	for what, harm := range map[string]func(n *regularNode){
		"a directory":  func(n *regularNode) { n.mode = unix.S_IFDIR | 0o700 },
		"by its path":  func(n *regularNode) { n.flags = unix.O_PATH },
		"signals":      func(n *regularNode) { n.flags = unix.O_ASYNC },
		"an owner":     func(n *regularNode) { n.owner = owner{who: linux.FOwnerEx{PID: 1}} },
		"a signal":     func(n *regularNode) { n.owner = owner{sig: 10} },
		"a build-id":   func(n *regularNode) { n.also() },
		"another way":  func(n *regularNode) { n.remap = &remapped{} },
		"a long name":  func(n *regularNode) { n.name = n.dir.name + strings.Repeat("n", 65) },
		"no directory": func(n *regularNode) { n.dir = nil },
		"a lease":      func(n *regularNode) { n.locks = &Locks{breaking: true} },
	} {
		n := *nodes[1]
		if harm(&n); n.Ownable() {
			t.Errorf("%s: it may be opened by the task", what)
		}
	}
}

// What a task has opened is compared with what it was.
func TestConfirm(t *testing.T) {
	nodes, wrong := variousFiles(t, filepath.Join(t.TempDir(), "f"), 60)
	for i, n := range nodes {
		var st unix.Stat_t
		if unix.Stat(n.name, &st) != nil || wrong[i] == "not a directory" {
			continue
		}
		if err := n.Confirm(&plan.Env{}, &st); wrong[i] != "" {
			mustFail(t, err, n.name+": ", wrong[i])
		} else {
			must(t, err)
		}
	}
}
