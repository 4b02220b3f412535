package test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Of many files that a task opens itself, or the engine does meanwhile, each that is not
// what it was is named; nothing is left, and once all are right again it works.
func TestManyOpenRefused(t *testing.T) {
	e := glisOnly(t)
	for _, many := range []string{"500", "3000"} {
		t.Run(many, func(t *testing.T) {
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/manyopen.c"), many, ".")
			p.AwaitAt(t, 0)
			img := testkit.NewDir(t)
			e.Save(t, p.PID, img)
			for _, harm := range []func(*testing.T, string) ([]string, func()){filesGone, filesChanged} {
				words, repair := harm(t, filepath.Join(p.Dir, "many"))
				refused(t, e, []string{"restore", "-d", "-D", img}, words...)
				repair()
			}
			e.Restore(t, img)
			p.Go(t, 0, true)
			p.WaitExit(t, 0)
		})
	}
}

// filesGone removes a file, and has a FIFO take another one's place.
func filesGone(t *testing.T, dir string) (words []string, repair func()) {
	gone, other := filepath.Join(dir, "7"), filepath.Join(dir, "142")
	rename(t, gone, gone+".away")
	rename(t, other, other+".away")
	if err := unix.Mkfifo(other, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{gone, "missing", other, "it is a FIFO now"}, func() {
		rename(t, gone+".away", gone)
		rename(t, other+".away", other)
	}
}

// filesChanged makes a file shorter, and gives others another mode.
func filesChanged(t *testing.T, dir string) (words []string, repair func()) {
	short, first, last := filepath.Join(dir, "133"), filepath.Join(dir, "4"), filepath.Join(dir, "499")
	mode := func(bits os.FileMode) {
		if err := errors.Join(os.Chmod(first, bits), os.Chmod(last, bits)); err != nil {
			t.Fatal(err)
		}
	}
	back := cut(t, short, 1)
	mode(0o640)
	return []string{short, "shorter", first, last, "0640"}, func() {
		back()
		mode(0o600)
	}
}
