package vmamem

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/bpf/bpftest"
	"glis.dev/glis/internal/proc"
)

const names = "\x00bpf_iter_task_vma\x00vm_area_struct\x00vm_start\x00vm_end\x00vm_flags\x00"

// whole is a kernel whose flags are in a union of size bytes: names at 1, 19,
// 34, 43, 50.
func whole(size uint32) []uint32 {
	return []uint32{
		1, bpf.KindFunc << 24, 9,
		19, bpf.KindStruct<<24 | 2, 192, 0, 3, 0, 0, 4, 16 * 8,
		0, bpf.KindStruct<<24 | 2, 16, 34, 9, 0, 43, 9, 8 * 8,
		0, bpf.KindUnion<<24 | 1, size, 50, 9, 0,
	}
}

func TestLayout(t *testing.T) {
	tests := []struct {
		name string
		in   []uint32
		want *layout
	}{
		{"whole", whole(8), &layout{function: 1, start: 0, end: 8, flags: 16}},
		{"more flags than a word", whole(16), nil},
		{"no iterator", whole(8)[3:], nil},
		{"no mappings", whole(8)[:3], nil},
		{"no flags", whole(8)[:21], nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := bpf.Parse(bpftest.File(tt.in, names))
			if err != nil {
				t.Fatal(err)
			}
			l, err := findLayout(x)
			if tt.want == nil {
				if !errors.Is(err, ErrUnavailable) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || *l != *tt.want {
				t.Errorf("%+v, %v", l, err)
			}
		})
	}
}

func TestTable(t *testing.T) {
	page := proc.VMA{Start: 0x1000, End: 0x2000}
	with := func(f proc.VmFlags, key uint32, unknown ...string) []proc.VMA {
		v := page
		v.Flags, v.Pkey, v.Unknown = f, key, unknown
		return []proc.VMA{v}
	}
	tests := []struct {
		name  string
		bits  uint64
		codes string
		smaps []proc.VMA
		known uint64
		fails bool
	}{
		{"two", 1 | 1<<40, "rd dp", with(proc.VmRead|proc.VmDroppable, 0), 1 | 1<<40, false},
		{"unknown", 1 | 1<<39, "rd ??", with(proc.VmRead, 0, "??"), 1 | 1<<39, false},
		{"order is the bits'", 1<<63 | 2, "wr sl", with(proc.VmWrite|proc.VmSealed, 0), 1<<63 | 2, false},
		{"a bit without code", 3 | 1<<33, "rd wr", with(proc.VmRead|proc.VmWrite, 2), 0, true},
		{"a key that no bit shows", 1, "rd", with(proc.VmRead, 1), 0, true},
		{"other flags", 1, "rd", with(proc.VmWrite, 0), 0, true},
		{"other unknown flags", 1, "??", with(0, 0, "zz"), 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seen := map[uint64]record{page.Start: {page.Start, page.End, tt.bits}}
			got, err := tableOf(seen, map[uint64][]string{page.Start: strings.Fields(tt.codes)}, tt.smaps)
			if tt.fails {
				if !errors.Is(err, ErrUnavailable) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || got.known != tt.known {
				t.Fatalf("%+v, %v", got, err)
			}
			f := filler{table: got}
			for range 2 {
				v := page
				if err := f.fill(&v, tt.bits); err != nil || v.Flags != tt.smaps[0].Flags || !slices.Equal(v.Unknown, tt.smaps[0].Unknown) {
					t.Errorf("%v %q, %v", v.Flags, v.Unknown, err)
				}
			}
			if err := f.fill(&page, tt.bits|1<<50); err == nil {
				t.Error("a bit that was not learnt is taken")
			}
		})
	}
}

// The same bit must not mean two things.
func TestContradiction(t *testing.T) {
	var a table
	if err := errors.Join(a.learn(1, []string{"rd"}), a.learn(3, []string{"rd", "wr"})); err != nil {
		t.Fatal(err)
	}
	if err := a.learn(3, []string{"wr", "rd"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

func TestUnchanged(t *testing.T) {
	a := map[uint64]record{1: {1, 2, 3}, 2: {2, 3, 3}, 4: {4, 5, 3}}
	b := map[uint64]record{1: {1, 2, 3}, 2: {2, 3, 7}, 5: {5, 6, 3}}
	if got := unchanged(a, b); len(got) != 1 || got[1] != a[1] {
		t.Errorf("%v", got)
	}
}

const someSmaps = `00400000-00401000 r-xp 00000000 fe:00 12 /a b: -c
Size:                  4 kB
ProtectionKey:         0
VmFlags: rd ex mr mw me
7ffd0000-7ffd1000 ---p 00000000 00:00 0
VmFlags:
`

func TestCodesOf(t *testing.T) {
	got := codesOf([]byte(someSmaps))
	if len(got) != 2 || !slices.Equal(got[0x400000], []string{"rd", "ex", "mr", "mw", "me"}) || len(got[0x7ffd0000]) != 0 {
		t.Errorf("%v", got)
	}
}

func FuzzCodesOf(f *testing.F) {
	f.Add([]byte(someSmaps))
	f.Add([]byte("VmFlags: rd\n:\n-\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a table
		for start, codes := range codesOf(b) {
			_ = a.learn(start, codes)
		}
		for i, c := range a.codes {
			if (a.known&(1<<i) != 0) != (c != "") {
				t.Errorf("bit %d is %q", i, c)
			}
		}
	})
}
