package bpf

import (
	"slices"
	"testing"

	"glis.dev/glis/internal/bpf/bpftest"
)

// A type is found by its number wherever it is, and in whatever order types are
// asked for: the first walk to one begins at the first of all, others on the way.
func TestByID(t *testing.T) {
	const n = 5 * apart
	var all []uint32
	for i := range n {
		all = append(all, 0, KindInt<<24, uint32(i+1), 0)
	}
	for _, ids := range [][]uint32{{n, 1, apart, apart + 1}, {1, apart, n}, {2*apart + 1, 2 * apart, n - 1, 3*apart + 1}, {0, 3, n + 1, 7, n + 1}} {
		x, err := Parse(bpftest.File(all, "\x00"))
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			want := id
			if id > n {
				want = 0
			}
			if got, err := x.byID(id); err != nil || got.ID != want || got.Size != want {
				t.Errorf("%d of %v: %v, %v", id, ids, got, err)
			}
		}
		if len(x.marks) > n/apart+1 {
			t.Errorf("%d marks for %d types", len(x.marks), n)
		}
	}
}

// Names that begin alike, short ones, and kinds one or the other of which a type may
// have; a struct without members is passed over.
func TestFindAlike(t *testing.T) {
	const names = "\x00abcd\x00abce\x00a\x00ab\x00" // at 1, 6, 11, 13
	x, err := Parse(bpftest.File([]uint32{
		1, KindStruct << 24, 0, // 1
		6, KindStruct << 24, 8, // 2
		1, KindEnum<<24 | 1, 4, 0, 7, // 3
		1, KindStruct << 24, 8, // 4
		11, KindFunc << 24, 1, // 5
		13, KindFunc << 24, 1, // 6
	}, names))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		names []Name
		want  []uint32
	}{
		{[]Name{{Kind: KindStruct, Name: "abcd"}}, []uint32{4}},
		{[]Name{{Kind: KindStruct, Or: KindEnum, Name: "abcd"}, {Kind: KindStruct, Name: "abce"}}, []uint32{3, 2}},
		{[]Name{{Kind: KindFunc, Name: "ab"}, {Kind: KindFunc, Name: "a"}, {Kind: KindFunc, Name: "abcd"}}, []uint32{6, 5, 0}},
		{nil, nil},
	} {
		found, err := x.Find(c.names...)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint32
		for _, f := range found {
			got = append(got, f.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.names, got, c.want)
		}
	}
}
