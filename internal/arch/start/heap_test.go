package start

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// TestCollapse: when the kernel says so, the heap has a huge page.
func TestCollapse(t *testing.T) {
	err := syscall.Errno(-collapse())
	for i := 0; i < 100 && (err == syscall.EAGAIN || err == syscall.ENOMEM); i++ {
		err = syscall.Errno(-collapse()) // none was free, or a page was in use
	}
	if _, no := os.Stat("/sys/kernel/mm/transparent_hugepage"); no != nil {
		testkit.Lacks(t, "huge pages", err, syscall.EINVAL)
	}
	if err != 0 {
		testkit.Lacks(t, "MADV_COLLAPSE", err)
	}
	all, no := os.ReadFile("/proc/self/smaps")
	if no != nil {
		t.Fatal(no)
	}
	for line := range bytes.Lines(all) {
		if rest, ok := bytes.CutPrefix(line, []byte("AnonHugePages:")); ok {
			if n, err := strconv.Atoi(string(bytes.Fields(rest)[0])); err == nil && n > 0 {
				return
			}
		}
	}
	t.Error("no mapping has any")
}
