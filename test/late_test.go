package test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A signal that comes while the tree is frozen and its memory is being copied,
// long after its state was read, is there after the restore.
func TestLateSignal(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/late.c"), "400", ".")
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	var sent error
	var sender sync.WaitGroup
	sender.Go(func() {
		testkit.Await(t, img, p.PID, "the pages", func() bool {
			_, err := os.Stat(filepath.Join(img, "pages-1.img"))
			return err == nil
		})
		sent = unix.Kill(p.PID, unix.SIGUSR1)
	})
	e.Save(t, p.PID, img)
	sender.Wait()
	if sent != nil {
		t.Skipf("the dump was over before the signal came: %v", sent)
	}
	e.Restore(t, img)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
	if got, _ := os.ReadFile(filepath.Join(p.Dir, "obs.1.root")); strings.TrimSpace(string(got)) != "came 1" {
		t.Errorf("after the restore: %q, want one signal", got)
	}
}
