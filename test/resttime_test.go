package test

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/testkit"
)

// A call that waits for a given time goes on for what was left of it, however often the
// tree is saved: also of the calls of which only the kernel's memory tells that.
func TestRestOfTime(t *testing.T) {
	e := glisOnly(t)
	threadMemory(t)
	path := testkit.BuildC(t, "targets/restart.c")
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), path, ".")
	p.AwaitAt(t, 0)
	first := testkit.NewDir(t)
	e.Save(t, p.PID, first)
	pid := e.Restore(t, first)
	second := testkit.NewDir(t)
	e.Save(t, pid, second)
	before, after := futexRests(t, first), futexRests(t, second)
	if len(before) != 3 || len(after) != 3 {
		t.Errorf("what is left of three futex waits is told as %v, then %v", before, after)
	}
	for id, ns := range after {
		if ns <= 0 || ns > before[id] {
			t.Errorf("%s: %d ns were left, then %d", id, before[id], ns)
		}
	}
}

// futexRests returns what is left of the futex waits of all threads, in ns, by image.
func futexRests(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	s, err := image.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	names, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, name := range names {
		row, ids, ok := image.RowFor(name)
		if !ok || row != image.Core {
			continue
		}
		c, err := image.ReadOne[*criu_core.CoreEntry](s, row, uint32(ids[0]))
		if err != nil {
			t.Fatal(err)
		}
		x, err := task.ReadExtra(c)
		if b := x["restart"]; err == nil && len(b) == 32 && binary.LittleEndian.Uint64(b) == unix.SYS_FUTEX {
			out[strings.TrimSuffix(name, ".img")] = int64(binary.LittleEndian.Uint64(b[16:]))*1e9 + int64(binary.LittleEndian.Uint64(b[24:]))
		}
	}
	return out
}
