package mem

import (
	"bytes"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/scan"
)

// A space that was put down in little memory is described as it was, and has the same
// pages, as long as somebody looks.
func TestFold(t *testing.T) {
	make := func() *Space {
		s := &Space{PID: 7, areas: []area{
			{Span: pages.Span{Start: 0x1000, End: 0x3000}, offset: 1 << 40, prot: 7, flags: unix.MAP_PRIVATE, status: statusRegular | statusFilePrivate, file: 9, access: unix.O_RDWR, madvise: 1 << 14, extra: extraSealed},
			{Span: pages.Span{Start: 0x3000, End: 0x9000}, prot: 3, flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, status: statusRegular | statusAnonPrivate, name: "a name"},
			{Span: pages.Span{Start: 1<<64 - 10<<20, End: 1<<64 - 10<<20 + page}, status: statusVsyscall | statusAnonPrivate},
		}, guard: []pages.Span{{Start: 0x4000, End: 0x5000}}}
		s.task, s.auxv = &scan.Task{}, bytes.Repeat([]byte{1, 2, 3}, 128)
		s.found = []stretch{{Span: pages.Span{Start: 0x2000, End: 0x3000}}, {Span: pages.Span{Start: 0x3000, End: 0x4000}, area: 1}, {Span: pages.Span{Start: 0x8000, End: 0x9000}, area: 1}}
		s.Entry = s.describe(5)
		return s
	}
	encoded := func(s *Space) []byte {
		t.Helper()
		s.List()
		b, err := proto.Marshal(s.Entry)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want, before, s := make(), make(), make()
	before.Fold(nil)
	s.Fold(before)
	if s.areas != nil || s.found != nil || s.Entry != nil || &s.auxv[0] != &before.auxv[0] {
		t.Errorf("it takes as much memory: %+v", s)
	}
	if got := encoded(s); !bytes.Equal(got, encoded(want)) {
		t.Errorf("it is described as %+v", s.Entry)
	}
	for range 2 {
		fold := s.unfold()
		if !reflect.DeepEqual(s.areas, want.areas) || !reflect.DeepEqual(s.found, want.found) || !reflect.DeepEqual(s.guard, want.guard) {
			t.Errorf("it is now %+v", s)
		}
		if fold(); s.areas != nil {
			t.Error("it stays as large")
		}
	}
	ring := make()
	ring.areas[1].status = statusAIORing
	if ring.Fold(nil); ring.folded != nil {
		t.Error("nobody finds its ring")
	}
}

// A space of a restore is as it was, with what is stored of each mapping, until its
// mappings are made: then only what is to be done at last is kept.
func TestKeep(t *testing.T) {
	make := func() *Space {
		s := &Space{PID: 7, Entry: &mm.MmEntry{}, areas: []area{
			{Span: pages.Span{Start: 0x1000, End: 0x3000}, prot: 1, flags: unix.MAP_PRIVATE, status: statusRegular | statusFilePrivate, file: 9, first: 0, last: 1, now: 3, advised: 1 << 15},
			{Span: pages.Span{Start: 0x3000, End: 0x5000}, flags: unix.MAP_SHARED, status: statusRegular | statusAnonShared | statusSysVIPC, segment: 12, first: 1, last: 1},
			{Span: pages.Span{Start: 0x8000, End: 0x20000}, prot: 3, flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, status: statusRegular | statusAnonPrivate, first: 1, last: 3},
		}, guard: []pages.Span{}}
		s.found = []stretch{}
		s.pieces = []piece{pieceOf([2]uint64{1, 2}, 0, false), pieceOf([2]uint64{8, 9}, 1<<40, true), pieceOf([2]uint64{16, 32}, 0x1000, false)}
		return s
	}
	want, s := make(), make()
	for range 2 {
		if s.Keep(); s.areas != nil || s.pieces != nil {
			t.Errorf("it takes as much memory: %+v", s)
		}
		s.Unfold()
		if !reflect.DeepEqual(s.areas, want.areas) || !reflect.DeepEqual(s.pieces, want.pieces) {
			t.Errorf("it is now %+v", s)
		}
	}
	s.areas[2].from, s.areas[2].now = &s.areas[0], 7
	s.Made()
	fold := s.Unfold()
	if a := s.areas[2]; a.now != 7 || a.from != nil || len(s.pieces) != 0 || s.areas[0].advised != want.areas[0].advised {
		t.Errorf("it is now %+v", s)
	}
	if fold(); s.areas != nil {
		t.Error("it stays as large")
	}
}
