package test

import (
	"os"
	"path/filepath"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/stats"
	"glis.dev/glis/internal/testkit"
)

// Statistics are in the working directory, where those who give one look for them:
// runc, crun and who calls these.
func TestStatsInWorkDir(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := ticking(t)
	img, work := testkit.NewDir(t), testkit.NewDir(t)
	for range 2 { // the second time over those of the first
		e.Save(t, p.PID, img, "-W", work)
		e.Restore(t, img, "-W", work)
		told := statsIn(t, work, image.StatsDump).GetDump()
		if told.GetPagesWritten() == 0 {
			t.Errorf("stats-dump tells of no pages: %v", told)
		}
		if told := statsIn(t, work, image.StatsRestore).GetRestore(); told.GetPagesRestored() == 0 {
			t.Errorf("stats-restore tells of no pages: %v", told)
		}
		for _, name := range []string{"stats-dump", "stats-restore"} {
			if _, err := os.Stat(filepath.Join(img, name)); err == nil {
				t.Errorf("%s is in the images directory, too", name)
			}
		}
		if code, said := verified(t, e, img); code != 0 {
			t.Errorf("verify: exit status %d: %s", code, said)
		}
		awaitCount(t, p, 3)
		img = testkit.NewDir(t)
	}
}

// A working directory that is the images' by another name is no other one; one that
// is another checkpoint's stays as it is.
func TestStatsLeaveImages(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := ticking(t)
	img, second := testkit.NewDir(t), testkit.NewDir(t)
	link := filepath.Join(testkit.NewDir(t), "link")
	if err := os.Symlink(img, link); err != nil {
		t.Fatal(err)
	}
	e.Save(t, p.PID, img, "-W", link)
	e.Restore(t, img)
	e.Save(t, p.PID, second, "-W", img)
	for _, dir := range []string{img, second} {
		if code, said := verified(t, e, dir); code != 0 {
			t.Errorf("verify %s: exit status %d: %s", dir, code, said)
		}
	}
	e.Restore(t, second)
}

func statsIn(t *testing.T, dir string, row *image.Row) *stats.StatsEntry {
	t.Helper()
	s, err := image.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	told, err := image.ReadOne[*stats.StatsEntry](s, row)
	if err != nil {
		t.Fatal(err)
	}
	return told
}
