package fd

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The table has room afterwards, as far as it may.
func TestMakeRoom(t *testing.T) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 5000, 1 << 30} {
		makeRoom(n)
		if n = int(min(uint64(n), l.Cur, Plenty)); size(t) < n {
			t.Errorf("there is room for %d, not for %d", size(t), n)
		}
	}
}

// size is how many descriptors the table has room for: proc_pid_status(5).
func size(t *testing.T) (n int) {
	all, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(all), "FDSize:")
	if _, err := fmt.Sscan(line, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
