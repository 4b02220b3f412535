package file

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Who has locked a file is looked at first.
func TestLockers(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("/proc/%d", os.Getpid())
	if slices.Contains(lockers(st.Ino), own) {
		t.Error("nobody has locked it")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if all := lockers(st.Ino); !slices.Contains(all, own) {
		t.Errorf("%v, want %s among them", all, own)
	}
}
