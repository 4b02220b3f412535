package guardian

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
)

// What was mapped for the engine is told from what is the task's own: by where it is,
// and by what may be done with it.
func TestLeftovers(t *testing.T) {
	const r, w, x = unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC
	areas := []area{{0x10000, 0x8000}}
	vma := func(start, end uint64, prot int) proc.VMA {
		return proc.VMA{Start: start, End: end, Prot: prot}
	}
	file := vma(0x10000, 0x18000, r|w|x)
	file.Inode = 7
	for _, c := range []struct {
		name string
		vmas []proc.VMA
		want int
	}{
		{"nothing", nil, 0},
		{"elsewhere", []proc.VMA{vma(0x20000, 0x28000, r|w|x)}, 0},
		{"all of it", []proc.VMA{vma(0x10000, 0x18000, r|w|x)}, 1},
		{"joined with others", []proc.VMA{vma(0x8000, 0x20000, r|w|x)}, 1},
		{"a part of it", []proc.VMA{vma(0x10000, 0x12000, r|w|x)}, 0},
		{"a file", []proc.VMA{file}, 0},
		{"not yet apart", []proc.VMA{vma(0x10000, 0x18000, r|x)}, 1},
		{"apart", []proc.VMA{vma(0x10000, 0x11000, r|x), vma(0x11000, 0x18000, r|w)}, 1},
		{"apart, more code", []proc.VMA{vma(0x10000, 0x12000, r|x), vma(0x12000, 0x18000, r|w)}, 0},
		{"apart, more data", []proc.VMA{vma(0x10000, 0x11000, r|x), vma(0x11000, 0x19000, r|w)}, 0},
		{"code of the task's", []proc.VMA{vma(0x8000, 0x18000, r|x)}, 0},
		{"data of the task's", []proc.VMA{vma(0x10000, 0x18000, r|w)}, 0},
	} {
		if got := leftovers(1, areas, c.vmas); len(got) != c.want {
			t.Errorf("%s: %d, want %d", c.name, len(got), c.want)
		}
	}
}
