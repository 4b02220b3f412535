package file

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/plan"
)

// TestProcNetTwice: the kernel forgets the name of a file below /proc/PID/net when it is
// opened once more, and the first one's path ends with "(deleted)" from then on.
func TestProcNetTwice(t *testing.T) {
	name := fmt.Sprintf("/proc/%d/net/dev", os.Getpid())
	a, b := open(t, name, unix.O_RDONLY), open(t, name, unix.O_RDONLY)
	g := self(t)
	f, f2 := g.add(a), g.add(b)
	if f.Link != name+deletedSuffix {
		t.Skipf("%s: the kernel has the name still", f.Link)
	}
	made := g.roundTrip()
	for _, f := range []plan.ID{plan.ID(f.ID), plan.ID(f2.ID)} {
		if n, err := unix.Read(made[f].Int(), make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
	}
}

// TestDeadOnce: criu notes one file of a process that has ended; the others are so, too.
func TestDeadOnce(t *testing.T) {
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var files []int
	for _, name := range []string{"maps", "comm", "task"} {
		files = append(files, open(t, fmt.Sprintf("/proc/%d/%s", c.Process.Pid, name), unix.O_RDONLY))
	}
	_, _ = c.Process.Kill(), c.Wait()
	g := self(t)
	for _, n := range append(files, open(t, fmt.Sprintf("/proc/%d/comm", os.Getpid()), unix.O_RDONLY)) {
		g.add(n)
	}
	g.mustDump()
	all, _ := g.im.Entries(image.RemapFile)
	g.im.rows[image.RemapFile.FileName()] = all[:1]
	nodes := plannedNodes(t, g.im)
	dead := 0
	for _, n := range nodes {
		if n, ok := n.(*deadNode); ok && n.remap.dead == uint32(c.Process.Pid) {
			dead++
		}
	}
	if len(all) != 3 || dead != 3 {
		t.Errorf("of %d files of a process that has ended %d are planned as such", len(all), dead)
	}
}
