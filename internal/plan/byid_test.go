package plan

import "testing"

func TestByID(t *testing.T) {
	for _, room := range []int{0, 1, 3} {
		var b ByID[int]
		if b.Find(0) != nil {
			t.Error("the zero value has something")
		}
		b.Expect(room)
		ids := []ID{0, 1, 2, 63, 70, 1 << 20, 1<<32 - 1}
		for i, id := range ids {
			if n := b.Find(id); n != nil && *n != 0 {
				t.Errorf("room for %d: file %#x has %d before it was set", room, id, *n)
			}
			*b.At(id) = i + 1
		}
		for i, id := range ids {
			if n := b.Find(id); n == nil || *n != i+1 || b.At(id) != n {
				t.Errorf("room for %d: file %#x has %v, want %d", room, id, n, i+1)
			}
		}
		if b.Find(1000) != nil {
			t.Error("a file that nobody asked for is there")
		}
	}
}
