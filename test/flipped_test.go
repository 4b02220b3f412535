package test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/testkit"
)

// everyEnv has every byte of the metadata of a checkpoint changed, and 10,000 of its
// pages; without it, some are.
const everyEnv = "GLIS_EVERY_BIT"

// steps is how far from each other the bytes of a file are that are changed, and how
// far those with which a restore is tried. There are all bytes of pages.
func steps(path string, size, all int64) (verify, restore int64) {
	switch pages := strings.HasPrefix(filepath.Base(path), "pages-"); {
	case os.Getenv(everyEnv) == "":
		return size/5 + 1, size
	case pages:
		return all/10000 + 1, all/20 + 1
	default:
		return 1, size/10 + 1
	}
}

// pageBytes is how large all pages files are.
func pageBytes(t *testing.T, img string) (all int64) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(img, "pages-*.img"))
	for _, path := range names {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		all += st.Size()
	}
	return all
}

// unlike tells what verify says of a checkpoint, and that a restore sees the same
// before any instruction of the tree runs.
func unlike(t *testing.T, img string) string {
	t.Helper()
	d, err := image.OpenDir(img)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	v, err := image.Verify(t.Context(), d)
	if err == nil {
		err = errors.Join(v.Bad...)
	}
	c, seen := image.Check(d)
	if seen == nil {
		seen = errors.Join(c.Metadata(t.Context()), c.Rest(t.Context()))
	}
	if (err == nil) != (seen == nil) {
		t.Errorf("verify: %v; a restore: %v", err, seen)
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// A bit of any byte of a checkpoint of a busy tree with connections: its file is
// named, nothing is restored, and the checkpoint is as good as before.
func TestFlippedBits(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/traffic.c"), ".")
	awaitCount(t, p, 3)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, established...)
	names, _ := filepath.Glob(filepath.Join(img, "*.img"))
	flips, tried, all := 0, 0, pageBytes(t, img)
	for _, path := range names {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		step, far := steps(path, st.Size(), all)
		for at, next := int64(0), far/2; at < st.Size(); at += step {
			repair := flipped(t, path, at)
			if said := unlike(t, img); !strings.Contains(said, name) {
				t.Errorf("%s: byte %d: %q", name, at, said)
			}
			if flips++; at >= next && os.Getenv(everyEnv) != "" {
				refused(t, e, []string{"restore", "-d", "-D", img, "--tcp-established"}, name)
				bury(t, p.PID) // nothing may be left
				tried, next = tried+1, next+far
			}
			repair()
		}
	}
	t.Logf("%d bytes of %d images (%d bytes of pages), with %d of them a restore was tried", flips, len(names), all, tried)
	e.Restore(t, img, established...)
	awaitCount(t, p, 3)
}
