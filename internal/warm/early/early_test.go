package early

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// TestCollapse: when the kernel says so, the heap has a huge page.
func TestCollapse(t *testing.T) {
	err := collapse()
	for i := 0; i < 100 && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM)); i++ {
		err = collapse() // none was free, or a page was in use
	}
	if _, no := os.Stat("/sys/kernel/mm/transparent_hugepage"); no != nil {
		testkit.Lacks(t, "huge pages", err, syscall.EINVAL)
	}
	testkit.Lacks(t, "MADV_COLLAPSE", err)
	all, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
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
