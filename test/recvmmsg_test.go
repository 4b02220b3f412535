package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A thread in recvmmsg(2) that has one of two messages returns that when it is stopped, and
// nobody hears of the stop, neither who runs on nor who is restored.
func TestRecvmmsg(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	for _, limit := range []string{"", "limited"} {
		for _, more := range []string{"", "--leave-running"} {
			dir, args := testkit.NewDir(t), append([]string{testkit.BuildC(t, "targets/recvmmsg.c")}, strings.Fields(limit)...)
			p := testkit.Start(t, dir, append(args, ".")...)
			in := fmt.Sprintf("%d ", unix.SYS_RECVMMSG)
			testkit.Poll(t, "it waits", func() bool {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", p.PID))
				return err == nil && strings.HasPrefix(string(b), in)
			})
			images := t.TempDir()
			if e.Save(t, p.PID, images, strings.Fields(more)...); more == "" {
				e.Restore(t, images)
			}
			var says string
			testkit.Poll(t, "it goes on", func() bool {
				b, err := os.ReadFile(filepath.Join(dir, "says.0"))
				if says = string(b); err == nil && strings.HasSuffix(says, ".") {
					return true
				}
				if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", p.PID)); err == nil && strings.HasPrefix(string(b), in) {
					says = "that it waits once more"
					return true
				}
				b, err = os.ReadFile(filepath.Join(dir, "error"))
				says = "that it failed: " + string(b)
				return err == nil && strings.HasSuffix(says, "\n")
			})
			if want := fmt.Sprintf("1, -1 %d.", int(unix.EAGAIN)); says != want {
				t.Errorf("%s %s: it says %q, want %q", limit, more, says, want)
			}
			p.Kill()
		}
	}
}
