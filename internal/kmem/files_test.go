package kmem

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// The table of files of a process is read as a whole; its entries are those that
// are found one by one.
func TestFiles(t *testing.T) {
	r := open(t)
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(self)
	high, err := unix.FcntlInt(uintptr(self), unix.F_DUPFD_CLOEXEC, 700)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(high)
	all, err := r.Files(self)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{self, high} {
		at, err := r.File(n)
		if err != nil {
			t.Fatal(err)
		}
		if at == 0 || all[int32(n)] != at {
			t.Errorf("descriptor %d is at %#x in the table, and at %#x alone", n, all[int32(n)], at)
		}
	}
	numbers, files, err := r.Descriptors(self)
	if err != nil || len(numbers) != len(all) || len(files) != len(all) || !slices.IsSorted(numbers) {
		t.Fatalf("descriptors %d of %d files, %#x: %v", numbers, len(all), files, err)
	}
	for i, n := range numbers {
		if all[n] == 0 || all[n] != files[i] {
			t.Errorf("descriptor %d is at %#x alone, and at %#x with all", n, all[n], files[i])
		}
	}
	if all[int32(self)] != all[int32(high)] {
		t.Error("a duplicate is another file")
	}
	unix.Close(high)
	if all, err = r.Files(self); err != nil || all[int32(high)] != 0 {
		t.Errorf("a closed descriptor: %#x, %v", all[int32(high)], err)
	}
}
