package mem

import (
	"testing"

	"glis.dev/glis/image/criu/mm"
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
