package test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// unmark takes the checksums from a checkpoint, so that it is like criu's: the
// manifest, and the mark at the end of the inventory.
func unmark(t *testing.T, img string) {
	t.Helper()
	const mark, head = 22, 8
	path := filepath.Join(img, "inventory.img")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = b[:len(b)-mark]
	binary.LittleEndian.PutUint32(b[head/2:], uint32(len(b)-head))
	write(t, path, b)
	if err := os.Remove(filepath.Join(img, "glis-manifest.img")); err != nil {
		t.Fatal(err)
	}
}

// verified runs glis verify and returns its exit status and all it said.
func verified(t *testing.T, e testkit.Engine, img string) (int, string) {
	t.Helper()
	r := e.Run(t, "verify", img)
	return r.Code, r.Stdout + r.Stderr
}

// damaged checks that verify, inspect and restore all refuse a checkpoint and
// name the file.
func damaged(t *testing.T, e testkit.Engine, img string, inspect bool, words ...string) {
	t.Helper()
	code, said := verified(t, e, img)
	for _, w := range words {
		if code != 1 || !strings.Contains(said, w) {
			t.Errorf("verify: exit status %d, %q must be named in:\n%s", code, w, said)
		}
	}
	if inspect {
		refused(t, e, []string{"inspect", img}, words...)
	}
	refused(t, e, []string{"restore", "-d", "-D", img}, words...)
	// What was cloned and killed comes to us when its parent is dead. If
	// something lives, this waits for it until the test is ended.
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			return
		}
	}
}

// flipped changes one bit of a file and returns what changes it back.
func flipped(t *testing.T, path string, at int64) (repair func()) {
	t.Helper()
	flip := func() {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [1]byte
		_, err = f.ReadAt(b[:], at)
		if b[0] ^= 1 << (at % 8); err == nil {
			_, err = f.WriteAt(b[:], at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip()
	return flip
}

// A bit anywhere in a checkpoint: it is not restored, nothing is left behind,
// and once it is mended it is restored, more than once.
func TestDamage(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	img, p, _ := checkpoint(t, e)
	if code, said := verified(t, e, img); code != 0 || !strings.Contains(said, "all as the dump wrote them") {
		t.Fatalf("verify: exit status %d: %s", code, said)
	}
	// That every byte is looked at is tested in package image.
	names, _ := filepath.Glob(filepath.Join(img, "*.img"))
	for i, path := range append(names, filepath.Join(img, "stats-dump")) {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		name, pages := filepath.Base(path), strings.HasPrefix(filepath.Base(path), "pages-")
		if repair := flipped(t, path, st.Size()/2); i%4 == 0 {
			damaged(t, e, img, !pages, name)
			repair()
		} else {
			refused(t, e, []string{"restore", "-d", "-D", img}, name)
			repair()
		}
	}
	for _, name := range []string{"pstree.img", "pages-1.img", "glis-manifest.img"} {
		path := filepath.Join(img, name)
		rename(t, path, path+".away")
		damaged(t, e, img, true, name)
		rename(t, path+".away", path)
	}
	e.Restore(t, img)
	awaitCount(t, p, 3)
	p.Kill()
	e.Restore(t, img)
	p.Kill()
	if code, said := verified(t, e, img); code != 0 {
		t.Errorf("after two restores: exit status %d: %s", code, said)
	}
}

// Pages are in many chunks; that of the damage is named, and no instruction of
// the target has run by then.
func TestDamagedPages(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/cow.c"), "same", ".")
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	names, _ := filepath.Glob(filepath.Join(img, "pages-*.img"))
	for _, path := range names {
		st, err := os.Stat(path)
		if err != nil || st.Size() == 0 {
			continue
		}
		for n := range min(4, 1+st.Size()>>20) {
			at := (st.Size() - 1) * n / 3
			repair := flipped(t, path, at)
			damaged(t, e, img, false, filepath.Base(path), fmt.Sprintf("at offset %d", at&^(1<<20-1)))
			repair()
		}
	}
	e.Restore(t, img)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}

// Images without checksums are criu's: a restore warns, and goes on.
func TestNoChecksums(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	img, p, _ := checkpoint(t, e)
	unmark(t, img)
	if code, said := verified(t, e, img); code != 1 || !strings.Contains(said, "no checksums") {
		t.Errorf("verify: exit status %d: %s", code, said)
	}
	r := e.Run(t, "restore", "-d", "-D", img)
	if r.Code != 0 || !strings.Contains(r.Stderr, "Warn") || !strings.Contains(r.Stderr, "checksums") {
		t.Errorf("restore: exit status %d: %s", r.Code, r.Stderr)
	}
	awaitCount(t, p, 3)
}

// A disk of every size up to one that is large enough: no checkpoint, and the
// target is as it was.
func TestFullDisk(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := ticking(t)
	pid := strconv.Itoa(p.PID)
	for size := 8; ; size += 24 {
		dir := mountTmpfs(t, 0, fmt.Sprintf("size=%dk", size))
		r := e.Run(t, "dump", "-t", pid, "-D", dir, "--leave-running")
		if r.Code == 0 {
			break
		}
		if !strings.Contains(r.Stderr, "space") {
			t.Errorf("%d KiB: %s", size, r.Stderr)
		}
		testkit.Unharmed(t, p.PID)
		empty(t, dir)
	}
	awaitCount(t, p, 3)
}
