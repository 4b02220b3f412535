package start

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// TestMakeRoom: wherever the heap begins, the kernel takes the advice, and what the
// heap has stays as it is.
func TestMakeRoom(t *testing.T) {
	for _, at := range []uintptr{0, huge - few/2, huge, chunk - few} {
		t.Run(fmt.Sprintf("%#x", at), func(t *testing.T) {
			kept := bytes.Repeat([]byte("kept"), 64<<10)
			p := frontier()&^(chunk-1) + at
			err := syscall.Errno(-makeRoom(p))
			if _, no := os.Stat("/sys/kernel/mm/transparent_hugepage"); no != nil && err != 0 {
				testkit.Lacks(t, "huge pages", err, syscall.EINVAL)
			}
			if err != 0 && err != syscall.ENOMEM { // nothing may be mapped there
				t.Error(err)
			}
			if !bytes.Equal(kept, bytes.Repeat([]byte("kept"), 64<<10)) {
				t.Error("what the heap had has changed")
			}
		})
	}
}

// The kernel has made a huge page of the heap, or has been told to make one.
func TestHuge(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		testkit.Lacks(t, "huge pages", err, syscall.ENOENT)
	}
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
		if rest, ok := bytes.CutPrefix(line, []byte("VmFlags:")); ok && bytes.Contains(rest, []byte(" hg")) {
			return
		}
	}
	t.Error("no mapping has any, nor will it")
}
