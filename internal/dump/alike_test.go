package dump

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/scan"
)

// TestAlike has files told apart by where the kernel has them, by kcmp(2), and by both.
func TestAlike(t *testing.T) {
	f := newFiles(&scan.Tree{})
	defer f.close() //nolint:errcheck // nothing was written
	if err := f.openSelf(); err != nil {
		t.Fatal(err)
	}
	const files, copies = 20, 3
	var numbers [copies][files]int
	for i := range files {
		for c := range copies {
			n, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if c > 0 {
				n, err = unix.FcntlInt(uintptr(numbers[0][i]), unix.F_DUPFD_CLOEXEC, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(n)
			numbers[c][i] = n
		}
	}
	for name, placed := range map[string]func(copy, i int) bool{
		"known":     func(int, int) bool { return true },
		"unknown":   func(int, int) bool { return false },
		"some":      func(_, i int) bool { return i%3 != 0 },
		"of some":   func(copy, _ int) bool { return copy == 1 },
		"the first": func(copy, _ int) bool { return copy == 0 },
	} {
		var a *alike
		all := map[int]*scan.File{}
		for c := range copies {
			for i := range files {
				file := &scan.File{Task: f.self, FD: int32(numbers[c][i])}
				if placed(c, i) {
					file.Place = uint64(i + 1)
				}
				if a == nil {
					a, all[i] = newAlike(file), file
					continue
				}
				known, err := a.find(file)
				if err != nil || known != all[i] {
					t.Errorf("%s: copy %d of file %d is %v, and not %v: %v", name, c, i, known, all[i], err)
				}
				if known == nil {
					all[i] = file
				}
			}
		}
		if len(a.all) != files {
			t.Errorf("%s: %d files of %d", name, len(a.all), files)
		}
	}
}

// TestAlikeAsksNobody: where the kernel has all is known, so nobody is asked to compare
// them, which here would fail.
func TestAlikeAsksNobody(t *testing.T) {
	a := newAlike(&scan.File{Place: 1})
	for i := range uint64(100) {
		known, err := a.find(&scan.File{Place: i/2 + 1})
		if err != nil || (known == nil) != (i%2 == 0 && i > 0) {
			t.Errorf("%d: %v, %v", i, known, err)
		}
	}
}
