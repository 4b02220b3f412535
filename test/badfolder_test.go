package test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Directories in which no file can be made, though nothing says so beforehand: what to
// do is said, and nothing is left behind.
func TestUnwritableFolder(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := ticking(t)
	for _, dir := range []string{"/proc", "/proc/self/fd", "/sys"} {
		t.Run(dir, func(t *testing.T) { harmless(t, e, p, dir, dir, "another directory", "-D") })
	}
	t.Run("no room for a file", func(t *testing.T) {
		dir := mountTmpfs(t, 0, "nr_inodes=3")
		harmless(t, e, p, dir, dir, "free some space")
		empty(t, dir)
	})
	t.Run("read-only", func(t *testing.T) {
		dir := mountTmpfs(t, unix.MS_RDONLY, "size=1m")
		harmless(t, e, p, dir, dir, "name another one with -D")
	})
	t.Run("a log that can't be made", func(t *testing.T) {
		dir := testkit.NewDir(t)
		refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", dir, "-o", "/nonexistent/log"}, "/nonexistent/log", "name another one with -o")
		empty(t, dir)
		awaitCount(t, p, 3)
	})
}

// A directory that is removed while the dump is at it, early or when all is written.
func TestRemovedFolder(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := ticking(t)
	for _, stage := range []string{"pre-dump", "post-dump"} {
		dir := filepath.Join(testkit.NewDir(t), "img")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		script := filepath.Join(testkit.NewDir(t), "script")
		text := "#!" + testkit.RequireProgram(t, "sh", "dash") + "\n[ $CRTOOLS_SCRIPT_ACTION != " + stage + " ] || rm -r $CRTOOLS_IMAGE_DIR\n"
		if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		before := testkit.Look(t, p.PID)
		refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", dir, "--action-script", script}, dir, "the directory was removed meanwhile; give a directory that stays (-D)")
		testkit.Unharmed(t, p.PID)
		if diff := testkit.Diff(before, testkit.Look(t, p.PID), "/count "); diff != "" {
			t.Errorf("%s: the dump changed the target:\n%s", stage, diff)
		}
		awaitCount(t, p, 3)
	}
}

// A PID file that can't be made ends the restore, which can be tried again.
func TestBadPidfile(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	img, p, _ := checkpoint(t, e)
	there := filepath.Join(p.Dir, "there")
	write(t, there, []byte("mine"))
	for _, name := range []string{"/nonexistent/pid", "/proc/pid", there} {
		refused(t, e, []string{"restore", "-d", "-D", img, "--pidfile", name}, name, "--pidfile", "give a name that is free, in a directory that is there")
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "mine" {
		t.Errorf("the file that was there has %q (%v)", b, err)
	}
	e.Restore(t, img)
	awaitCount(t, p, 3)
}

// What works with a checkpoint says of a directory that holds none, or only a part of
// one, or whose inventory is not what it was, what that is and what to do.
func TestNotAWholeCheckpoint(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	img, p, _ := checkpoint(t, e)
	inventory, flipped := "inventory.img", func(t *testing.T, dir string) {
		path := filepath.Join(dir, "inventory.img")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		write(t, path, b)
	}
	for _, tt := range []struct {
		name   string
		harm   func(t *testing.T, dir string)
		words  []string
		unlock string
	}{
		{"empty", removeAll, []string{"no checkpoint", "director"}, "nft list tables"},
		{"no inventory", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, inventory)) }, []string{inventory, "dump again"}, "nft list tables"},
		{"no inventory, no manifest", func(t *testing.T, dir string) {
			unmark(t, dir)
			remove(t, filepath.Join(dir, inventory))
		}, []string{inventory, "dump again"}, "nft list tables"},
		{"an inventory that was changed", flipped, []string{inventory, "another copy"}, "nft list tables"},
		{"an inventory that was cut", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, inventory), 20); err != nil {
				t.Fatal(err)
			}
		}, []string{inventory, "another copy"}, "nft list tables"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(testkit.NewDir(t), "img")
			if err := os.CopyFS(dir, os.DirFS(img)); err != nil {
				t.Fatal(err)
			}
			tt.harm(t, dir)
			for _, args := range [][]string{{"restore", "-d", "-D", dir}, {"verify", dir}, {"lock", dir}, {"inspect", dir}} {
				refused(t, e, args, tt.words...)
			}
			refused(t, e, []string{"unlock", dir}, append(tt.words, tt.unlock)...)
		})
	}
	e.Restore(t, img)
	awaitCount(t, p, 3)
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}
