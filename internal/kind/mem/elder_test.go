package mem

import (
	"testing"

	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/internal/pages"
)

// What an image says of an elder is taken if it can be, and is not told again by a
// space that is not cloned by that one: contents are compared then.
func TestReadElder(t *testing.T) {
	for v, good := range map[uint64]bool{0: false, 1: false, 2: true, 1 << 22: true, 1<<22 + 1: false, 1 << 40: false} {
		e := mmOf(vmaOf(nil))
		putVarint(e, mmExtra, mmExtraCow)
		putVarint(e, mmExtra, mmExtraElder)
		putVarint(e, mmElder, v)
		s, err := Read(storeOf(t, e, [2]uint64{0x11000, 2}), 1)
		if (err == nil) != good {
			t.Errorf("elder %d: %v", v, err)
		}
		if err != nil {
			continue
		}
		if s.Elder() != uint32(v) || s.extra&mmExtraCow != 0 {
			t.Errorf("elder %d: %d, extra %#x", v, s.Elder(), s.extra)
		}
		if s.CloneOf(false); s.Elder() != 0 || s.extra != 0 {
			t.Errorf("not cloned by its elder: %d, extra %#x", s.Elder(), s.extra)
		}
	}
	s := &Space{planned: planned{extra: mmExtraElder, elderPID: 3}, Entry: &mm.MmEntry{}}
	if s.CloneOf(true); s.extra != mmExtraCow {
		t.Errorf("cloned by its elder: extra %#x", s.extra)
	}
}

// What the parent has whole a sibling must have whole, too, or nothing of it.
func TestCutBy(t *testing.T) {
	space := func(all ...[2]uint64) *Space {
		s := &Space{}
		for _, x := range all {
			s.areas = append(s.areas, area{Span: pages.Span{Start: x[0] * page, End: x[1] * page}, status: statusRegular | statusAnonPrivate})
		}
		return s
	}
	own := space([2]uint64{10, 20}, [2]uint64{30, 40}, [2]uint64{50, 60})
	for _, c := range []struct {
		name            string
		sibling, parent *Space
		want            bool
	}{
		{name: "alike", sibling: own, parent: own},
		{name: "the sibling has more", sibling: space([2]uint64{5, 25}, [2]uint64{30, 45}, [2]uint64{50, 60}), parent: own},
		{name: "the sibling has nothing of one", sibling: space([2]uint64{10, 20}, [2]uint64{50, 60}), parent: own},
		{name: "the sibling lacks the end", sibling: space([2]uint64{10, 20}, [2]uint64{30, 39}), parent: own, want: true},
		{name: "the sibling lacks the beginning", sibling: space([2]uint64{51, 60}), parent: own, want: true},
		{name: "the sibling has two", sibling: space([2]uint64{10, 15}, [2]uint64{15, 20}), parent: own, want: true},
		{name: "the parent has two", sibling: space([2]uint64{10, 15}), parent: space([2]uint64{10, 12}, [2]uint64{12, 20})},
		{name: "of another the parent has two", sibling: space([2]uint64{31, 40}), parent: space([2]uint64{10, 12}, [2]uint64{12, 20}, [2]uint64{30, 40}), want: true},
		{name: "the parent has nothing", sibling: space([2]uint64{31, 40}), parent: space(), want: true},
	} {
		if got := own.CutBy(c.sibling, c.parent); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
