package mem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// TestRebuild saves the memory of a program that has every sort, makes it
// again in another process and compares the two.
func TestRebuild(t *testing.T) {
	p := start(t, "testdata/layout.c", 1)
	inspect(t, func() error {
		tree, err := freeze(p.PID)
		if err != nil {
			return err
		}
		f, err := save(tree, t.TempDir())
		if err != nil {
			return err
		}
		copies, err := rebuild(f)
		if err != nil {
			return err
		}
		return same(f, copies)
	})
}

// TestRebuildFamily does the same with a tree whose tasks share memory since
// their forks: it is stored once, and shared again afterwards.
func TestRebuildFamily(t *testing.T) {
	p := start(t, "testdata/layout.c", 5, "3")
	dir := t.TempDir()
	inspect(t, func() error {
		tree, err := freeze(p.PID)
		if err != nil {
			return err
		}
		f, err := save(tree, dir)
		if err != nil {
			return err
		}
		if got := diskUse(t, dir); got > 4<<20 {
			t.Errorf("5 tasks that share nearly all of 2 MiB take %d KiB", got>>10)
		}
		copies, err := rebuild(f)
		if err != nil {
			return err
		}
		if err := same(f, copies); err != nil {
			return err
		}
		return sameSharing(f, copies)
	})
}

// TestScattered saves memory that is too scattered to keep a list of.
func TestScattered(t *testing.T) {
	p := start(t, "testdata/layout.c", 3, "1")
	inspect(t, func() error {
		tree, err := freeze(p.PID)
		if err != nil {
			return err
		}
		f, err := describeAll(tree, t.TempDir())
		if err != nil {
			return err
		}
		for _, s := range f.spaces {
			s.found, s.scattered = nil, true
		}
		d := drainer{ctx: t.Context(), env: f.env, store: f.store, nextID: 1, keep: 7}
		if err := d.run(f.spaces); err != nil {
			return err
		}
		copies, err := rebuild(f)
		if err != nil {
			return err
		}
		return same(f, copies)
	})
}

// TestDiscard removes everything but what was there before.
func TestDiscard(t *testing.T) {
	p := start(t, "testdata/layout.c", 3, "1")
	dir := t.TempDir()
	inspect(t, func() error {
		tree, err := freeze(p.PID)
		if err != nil {
			return err
		}
		f, err := save(tree, dir)
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, "parent", "parent")); err != nil {
			t.Errorf("a chain of two forks has no chain of checkpoints: %v", err)
		}
		return Discard(f.store)
	})
	for _, name := range []string{"parent", CowDir} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

// same compares every task with its copy: mappings, contents, and which pages
// take up memory.
func same(f *frozen, copies []*copyOf) error {
	for i, c := range copies {
		pid := f.spaces[i].task.PID
		if err := sameMemory(pid, c.thread.Tgid); err != nil {
			return fmt.Errorf("task %d of %d: %w", i, len(copies), err)
		}
		want, err := own(pid)
		if err != nil {
			return err
		}
		got, err := own(c.thread.Tgid)
		if err != nil {
			return err
		}
		if d := cmp.Diff(want, got); d != "" {
			return fmt.Errorf("task %d of %d: pages of its own (-before +after):\n%s", i, len(copies), d)
		}
	}
	return nil
}

// sameSharing compares which pages children share with their parents.
func sameSharing(f *frozen, copies []*copyOf) error {
	made := map[*scan.Task]*copyOf{}
	for i, c := range copies {
		task := f.spaces[i].task
		made[task] = c
		if task.Parent == nil {
			continue
		}
		want, err := sharedPages(task.PID, task.Parent.PID)
		if err != nil {
			return err
		}
		got, err := sharedPages(c.thread.Tgid, made[task.Parent].thread.Tgid)
		if err != nil {
			return err
		}
		if len(want) < 50 {
			return fmt.Errorf("only %d spans are shared even before: saving the tree unshared them", len(want))
		}
		if d := cmp.Diff(want, got); d != "" {
			return fmt.Errorf("task %d of %d: shared with its parent (-before +after):\n%s", i, len(copies), d)
		}
	}
	return nil
}

func sharedPages(child, parent proc.PID) ([]pages.Span, error) {
	spans, err := own(child)
	if err != nil {
		return nil, err
	}
	of := func(pid proc.PID) *Space {
		d, e := proc.Open(pid)
		err = errors.Join(err, e)
		return &Space{dumped: dumped{task: &scan.Task{PID: pid, Dir: d}}}
	}
	a, b := of(child), of(parent)
	if err != nil {
		return nil, err
	}
	defer a.task.Dir.Close()
	defer b.task.Dir.Close()
	m, err := newMatcher(context.Background(), a, b)
	if err != nil {
		return nil, err
	}
	defer m.close()
	var out []pages.Span
	for _, s := range spans {
		err := m.split(stretch{Span: s}, func(p stretch) error {
			if p.shared {
				out = add(out, p.Span)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// diskUse returns what a folder takes up, links counted once.
func diskUse(t *testing.T, dir string) int64 {
	t.Helper()
	seen, sum := map[uint64]bool{}, int64(0)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if !seen[st.Ino] {
			seen[st.Ino] = true
			sum += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
