package mem

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
)

// TestSetFlags translates the flags of smaps.
func TestSetFlags(t *testing.T) {
	for _, c := range []struct {
		v       proc.VMA
		flags   uint32
		advice  uint64
		extra   uint64
		refused string
	}{
		{v: proc.VMA{Flags: proc.VmRead | proc.VmSoftDirty | proc.VmAccount}, flags: unix.MAP_PRIVATE},
		{v: proc.VMA{Flags: proc.VmGrowsDown | proc.VmLocked | proc.VmNoReserve}, flags: unix.MAP_PRIVATE | unix.MAP_GROWSDOWN | unix.MAP_LOCKED | unix.MAP_NORESERVE},
		{v: proc.VMA{Flags: proc.VmLocked | proc.VmLockOnFault | proc.VmSealed}, flags: unix.MAP_PRIVATE | unix.MAP_LOCKED, extra: extraLockOnFault | extraSealed},
		{v: proc.VMA{Flags: proc.VmHugePage | proc.VmDontCopy | proc.VmMergeable}, flags: unix.MAP_PRIVATE, advice: 1<<unix.MADV_HUGEPAGE | 1<<unix.MADV_DONTFORK | 1<<unix.MADV_MERGEABLE},
		{v: proc.VMA{Flags: proc.VmDroppable | proc.VmWipeOnFork | proc.VmDontDump | proc.VmNoReserve}, flags: linux.MAP_DROPPABLE},
		{v: proc.VMA{Name: "[vvar]", Flags: proc.VmPFNMap | proc.VmIO | proc.VmDontDump | proc.VmSealed}, flags: unix.MAP_PRIVATE, advice: 1 << unix.MADV_DONTDUMP},
		{v: proc.VMA{Prot: unix.PROT_EXEC, Pkey: 1}, flags: unix.MAP_PRIVATE},
		{v: proc.VMA{Prot: unix.PROT_READ, Pkey: 2}, refused: "protection key 2"},
		{v: proc.VMA{Flags: proc.VmUffdWP}, refused: "userfaultfd"},
		{v: proc.VMA{Flags: proc.VmShadowStack}, refused: "shadow stack"},
		{v: proc.VMA{Flags: proc.VmPFNMap}, refused: "device"},
		{v: proc.VMA{Name: "[uprobes]"}, refused: "uprobe"},
		{v: proc.VMA{Unknown: []string{"zz"}}, refused: `"zz"`},
	} {
		a := area{flags: unix.MAP_PRIVATE}
		err := a.setFlags(&c.v)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%v [%v]: %v, want an error that says %q", &c.v, c.v.Flags, err, c.refused)
			}
			continue
		}
		if err != nil || a.flags != c.flags || a.madvise != c.advice || a.extra != c.extra {
			t.Errorf("%v [%v]: flags %#x, advice %#x, extra %#x, %v", &c.v, c.v.Flags, a.flags, a.madvise, a.extra, err)
		}
	}
}

// TestHole finds room apart from everything, and far below stacks.
func TestHole(t *testing.T) {
	spaces := []*Space{
		{areas: []area{{Span: pages.Span{Start: 0x20000, End: 0x30000}}, {Span: pages.Span{Start: 0x400000, End: 0x500000}, flags: unix.MAP_GROWSDOWN}}},
		{areas: []area{{Span: pages.Span{Start: 0x40000, End: 0x60000}}}},
	}
	for _, c := range []struct{ size, want uint64 }{
		{0x8000, 0x10000}, {0xf000, 0x10000}, {0x10000, 0x61000}, {0x200000, 0x61000}, {0x300000, 0x501000},
	} {
		at, err := Hole(spaces, c.size, 0x10000)
		if err != nil || uint64(at) != c.want {
			t.Errorf("%#x bytes: at %#x, want %#x (%v)", c.size, at, c.want, err)
		}
	}
	if _, err := Hole(spaces, arch.TaskSize, 0x10000); err == nil {
		t.Error("a hole as large as all user space")
	}
}

// What lies side by side, and a stack that begins below what is before it as the kernel
// keeps room there, is one place that is taken; what another task has is its own.
func TestTaken(t *testing.T) {
	s := &Space{areas: []area{anon(10, 11), anon(11, 12), anon(12, 20), anon(500, 501), anon(600, 601)}}
	s.areas[4].flags |= unix.MAP_GROWSDOWN
	before := []pages.Span{{Start: 9 * page, End: 15 * page}}
	got := s.taken(slices.Clone(before))
	want := append(before, pages.Span{Start: 9 * page, End: 21 * page}, pages.Span{Start: 499 * page, End: 502 * page}, pages.Span{Start: 344 * page, End: 602 * page})
	if !slices.Equal(got, want) {
		t.Errorf("taken: %v, want %v", got, want)
	}
}

// Stored pages that reach into the next mapping are split there, others stay as they are.
func TestAssign(t *testing.T) {
	areas := []area{anon(0, 10), anon(10, 20), anon(20, 30), anon(40, 50)}
	s := spaceOf(areas, [2]uint64{1, 2}, [2]uint64{3, 5}, [2]uint64{8, 23}, [2]uint64{24, 26}, [2]uint64{41, 42})
	want := [][][2]uint64{{{1, 2}, {3, 5}, {8, 10}}, {{10, 20}}, {{20, 23}, {24, 26}}, {{41, 42}}}
	for i, a := range s.areas {
		var got [][2]uint64
		for _, p := range s.pieces[a.first:a.last] {
			got = append(got, [2]uint64{p.start() / page, p.end() / page})
		}
		if !slices.Equal(got, want[i]) {
			t.Errorf("%v has %v, want %v", &a, got, want[i])
		}
	}
	for _, stray := range [][2]uint64{{30, 31}, {39, 41}, {60, 61}} {
		s := &Space{areas: slices.Clone(areas), planned: planned{pieces: []piece{pieceOf([2]uint64{1, 2}, 0, false), pieceOf(stray, 0, false)}}}
		if at, ok := s.assign(); ok || at != stray[0]*page {
			t.Errorf("pages %v are in no mapping: %#x, %v", stray, at, ok)
		}
	}
}

// anon is a private anonymous area of pages [from,to) with pieces of pages.
func anon(from, to uint64) area {
	return area{Span: pages.Span{Start: from * page, End: to * page}, prot: 3, flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, status: statusRegular | statusAnonPrivate}
}

func spaceOf(areas []area, stored ...[2]uint64) *Space {
	s := &Space{areas: areas}
	s.extra = mmExtraCow
	for _, p := range stored {
		s.pieces = append(s.pieces, pieceOf(p, 0, true))
	}
	s.assign()
	return s
}

// TestLink drops what only the parent has, and writes what it lacks, across
// mappings that are joined on one side only.
func TestLink(t *testing.T) {
	parent := spaceOf([]area{anon(10, 20), anon(20, 40), anon(50, 60)}, [2]uint64{10, 18}, [2]uint64{25, 30}, [2]uint64{50, 60})
	child := spaceOf([]area{anon(10, 30), anon(35, 45), anon(50, 60)}, [2]uint64{12, 14}, [2]uint64{16, 28}, [2]uint64{50, 51}, [2]uint64{59, 60})
	child.link(parent)
	var bounds []pages.Span
	var drops []pages.Span
	for i := range child.areas {
		a := &child.areas[i]
		bounds = append(bounds, pages.Span{Start: a.Start / page, End: a.End / page})
		if a.from == nil {
			t.Logf("%v is new", a)
			continue
		}
		child.eachDrop(a, a.from, func(start, end uint64) {
			drops = append(drops, pages.Span{Start: start / page, End: end / page})
		})
	}
	if d := cmp.Diff([]pages.Span{{Start: 10, End: 20}, {Start: 20, End: 30}, {Start: 35, End: 40}, {Start: 40, End: 45}, {Start: 50, End: 60}}, bounds); d != "" {
		t.Errorf("areas: (-want +got)\n%s", d)
	}
	if d := cmp.Diff([]pages.Span{{Start: 10, End: 12}, {Start: 14, End: 16}, {Start: 28, End: 30}, {Start: 51, End: 59}}, drops); d != "" {
		t.Errorf("dropped: (-want +got)\n%s", d)
	}
	var st Stats
	var written []pages.Span
	todo, up := child.toWrite(&st)
	if !up {
		t.Error("what the parent lacks is in a parent checkpoint")
	}
	for _, w := range todo {
		written = append(written, pages.Span{Start: w.Start / page, End: w.End / page})
	}
	if d := cmp.Diff([]pages.Span{{Start: 18, End: 20}, {Start: 20, End: 25}}, written); d != "" {
		t.Errorf("written: (-want +got)\n%s", d)
	}
	if st.SharedCow != 2+2+3+2 {
		t.Errorf("%d pages stay shared", st.SharedCow)
	}
	checkSpace(t, child)
}

// TestForkable tells which mappings a fork leaves as they are wanted.
func TestForkable(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func(child, parent *area)
		want bool
	}{
		{"same", func(c, p *area) {}, true},
		{"part", func(c, p *area) { c.End -= page }, true},
		{"more", func(c, p *area) { c.End += page }, false},
		{"protection", func(c, p *area) { c.prot = 1 }, true},
		{"sort", func(c, p *area) { c.flags |= unix.MAP_GROWSDOWN }, false},
		{"locked", func(c, p *area) { p.flags |= unix.MAP_LOCKED }, true},
		{"file", func(c, p *area) { c.file = 1 }, false},
		{"offset", func(c, p *area) { c.file, p.file = 1, 1; c.Start += page }, false},
		{"part of a file", func(c, p *area) { c.file, p.file = 1, 1; c.Start += page; c.offset = page }, true},
		{"advice that can be taken back", func(c, p *area) { p.madvise = 1 << unix.MADV_DONTDUMP }, true},
		{"advice that can't", func(c, p *area) { p.madvise = 1 << unix.MADV_HUGEPAGE }, false},
		{"its opposite", func(c, p *area) { p.madvise, c.madvise = 1<<unix.MADV_HUGEPAGE, 1<<unix.MADV_NOHUGEPAGE }, true},
		{"name", func(c, p *area) { c.name = "x" }, false},
	} {
		a, b := anon(10, 20), anon(10, 20)
		c.f(&a, &b)
		if a.forkable(&b) != c.want {
			t.Errorf("%s: %v", c.name, !c.want)
		}
	}
}

// TestVdso compares the kernel's vdso with others.
func TestVdso(t *testing.T) {
	own, err := ownVdso()
	if err != nil {
		t.Fatal(err)
	}
	if len(own.syms) == 0 {
		t.Error("no functions in it")
	}
	at := uint64(1 << 30)
	vdso := area{Span: pages.Span{Start: at, End: at + uint64(len(own.text))}}
	vvar := area{Span: pages.Span{Start: at - own.vvar, End: at}}
	if err := own.fits(&vdso, &vvar, own.text); err != nil {
		t.Errorf("its own: %v", err)
	}
	other := append([]byte(nil), own.text...)
	other[len(other)-1] ^= 1
	if err := own.fits(&vdso, &vvar, other); err != nil {
		t.Errorf("other code, same functions: %v", err)
	}
	if err := own.fits(&vdso, &vvar, make([]byte, len(own.text))); err == nil {
		t.Error("no code at all fits")
	}
	if err := own.fits(&vdso, nil, own.text); err == nil {
		t.Error("one without data fits")
	}
	large := vdso
	large.End += page
	if err := own.fits(&large, &vvar, append(other, make([]byte, page)...)); err == nil {
		t.Error("a larger one fits")
	}
	moved := *own
	moved.syms = map[string]uint64{}
	for name, at := range own.syms {
		moved.syms[name] = at + 16
	}
	if err := moved.fits(&vdso, &vvar, other); err == nil || !strings.Contains(err.Error(), "is at 0x") {
		t.Errorf("one with functions elsewhere: %v", err)
	}
}

// TestSharedStaysWhole: shared memory of which the parent has a part only is one mapping
// in the child, as it was, and not what it inherited and a rest.
func TestSharedStaysWhole(t *testing.T) {
	of := func(end uint64, status uint32, flags uint32) *Space {
		return &Space{areas: []area{{Span: pages.Span{Start: 0x10000, End: end}, status: statusRegular | status, flags: flags, file: 7}}}
	}
	for _, c := range []struct {
		name   string
		status uint32
		flags  uint32
		want   int
	}{
		{"shared", statusFileShared | statusMemfd, unix.MAP_SHARED, 1},
		{"private", statusFilePrivate, unix.MAP_PRIVATE, 2},
	} {
		child, same := of(0x20000, c.status, c.flags), of(0x14000, c.status, c.flags)
		child.link(of(0x14000, c.status, c.flags))
		if len(child.areas) != c.want || child.areas[0].from == nil != (c.want == 1) {
			t.Errorf("%s: %v, the first inherited from %v", c.name, child.areas, child.areas[0].from)
		}
		if same.link(of(0x18000, c.status, c.flags)); len(same.areas) != 1 || same.areas[0].from == nil {
			t.Errorf("%s: what the parent has is mapped anew", c.name)
		}
	}
}
