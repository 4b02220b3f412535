package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// pss returns how much memory the processes of a tree take together, in KiB: what
// some share counts once.
func pss(t *testing.T, root int) (kib int) {
	t.Helper()
	for _, pid := range testkit.Tree(root) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := strings.Cut(string(text), "\nPss:")
		n := 0
		if _, err := fmt.Sscan(rest, &n); !ok || err != nil {
			t.Fatalf("process %d: %q", pid, text)
		}
		kib += n
	}
	return kib
}

// Many children share their parent's memory after a restore as they did before, and
// in the images, where it is once.
func TestManyChildrenShare(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	const mib, children = 8, 200
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/litter.c"), fmt.Sprint(mib), fmt.Sprint(children))
	testkit.AwaitFile(t, filepath.Join(p.Dir, "ready"), p.PID)
	before, img := pss(t, p.PID), testkit.NewDir(t)
	e.Save(t, p.PID, img)
	size := int64(0)
	files, err := filepath.Glob(filepath.Join(img, "pages-*.img"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	e.Restore(t, img)
	testkit.Unharmed(t, p.PID)
	after := pss(t, p.PID)
	t.Logf("%d processes: %d KiB before, %d KiB after, %d KiB of pages in images", children+1, before, after, size>>10)
	if n := len(testkit.Tree(p.PID)); n != children+1 {
		t.Errorf("%d processes, want %d", n, children+1)
	}
	// Each may have some more pages of its own, as of its stack.
	const own = 100 // KiB
	if after > before+children*own || size>>10 > int64(before+children*own) {
		t.Errorf("%d processes that share %d MiB take %d KiB after the restore, %d before, and %d in images", children+1, mib, after, before, size>>10)
	}
}
