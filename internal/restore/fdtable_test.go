package restore

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestFDTable(t *testing.T) {
	table := newFDTable(1, 4)
	var got []int32
	for range 4 {
		got = append(got, table.alloc())
	}
	if want := []int32{0, 2, 3, 5}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	table.free(2)
	table.free(4)
	table.take(6)
	got = got[:0]
	for range 4 {
		got = append(got, table.alloc())
	}
	if want := []int32{2, 4, 7, 8}; !slices.Equal(got, want) {
		t.Fatalf("after free: got %v, want %v", got, want)
	}
	table.free(100) // never taken
	if n := table.alloc(); n != 9 {
		t.Fatalf("got %d, want 9", n)
	}
}

// The table tells what the kernel does: the lowest number that is free.
func TestFDTableIsLowest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table, used := newFDTable(), map[int32]bool{}
	for range 20_000 {
		n := int32(r.IntN(64))
		switch r.IntN(3) {
		case 0:
			table.free(n)
			delete(used, n)
		case 1:
			table.take(n)
			used[n] = true
		default:
			want := int32(0)
			for used[want] {
				want++
			}
			if got := table.alloc(); got != want {
				t.Fatalf("got %d, want %d", got, want)
			}
			used[want] = true
		}
	}
}

// Large numbers are as good as small ones, and a copy is another table.
func TestFDTableOfLargeNumbers(t *testing.T) {
	const first = 64 * fewWords
	numbers := []int32{0, 63, 64, first - 1, first, first + 64, maxFD}
	table := newFDTable(numbers...)
	other := table.copy()
	for i, n := range numbers {
		if !table.has(n) || table.has(n^1) {
			t.Errorf("of %d and %d, the first is taken: %v, %v", n, n^1, table.has(n), table.has(n^1))
		}
		table.free(n)
		table.free(n ^ 1)
		if table.has(n) || !other.has(n) || i == 0 && table.alloc() != 0 {
			t.Errorf("%d is free in one of two tables", n)
		}
	}
	if empty := newFDTable(); empty.has(first) || empty.has(maxFD) {
		t.Error("an empty table has numbers")
	}
}

func TestSpare(t *testing.T) {
	b := batcher{table: newFDTable(0, 1, 3)}
	if n := b.Spare(); n != 2 || b.InUse(2) || b.Spare() != 2 {
		t.Fatalf("got %d", n)
	}
	if !b.InUse(3) {
		t.Fatal("3 is in use")
	}
}

// withFDs makes a tree of tasks that have these descriptors.
func withFDs(t *testing.T, tasks ...[]uint32) *tree {
	tr := &tree{}
	for _, fds := range tasks {
		k := &task{}
		for _, n := range fds {
			k.fds = append(k.fds, descriptor{fd: int32(n)})
		}
		tr.tasks = append(tr.tasks, k)
	}
	return tr
}

func TestTransportNumber(t *testing.T) {
	all := make([]uint32, 16)
	for i := range all {
		all[i] = uint32(i)
	}
	for _, c := range []struct {
		name  string
		tasks [][]uint32
		limit int32
		want  int32
		err   string
	}{
		{name: "no descriptors", tasks: [][]uint32{nil}, limit: 1024, want: 3},
		{name: "the standard ones", tasks: [][]uint32{{0, 1, 2}}, limit: 1024, want: 3},
		{name: "behind the highest of all", tasks: [][]uint32{{0, 7}, {9}, {8}}, limit: 1024, want: 10},
		{name: "the limit is in the way", tasks: [][]uint32{{0, 1, 2, 15}}, limit: 16, want: 14},
		{name: "a hole", tasks: [][]uint32{{15, 14, 12}, {13, 11, 9}}, limit: 16, want: 10},
		{name: "beyond the limit", tasks: [][]uint32{{1 << 30}}, limit: 16, err: "descriptor 1073741824 of the tree is beyond the limit of 16"},
		{name: "the highest number", tasks: [][]uint32{{maxFD - 1}}, limit: maxFD, want: maxFD - 2},
		{name: "all in use", tasks: [][]uint32{all}, limit: 16, err: "every descriptor below the limit of 16 is in use"},
		{name: "all in use together", tasks: [][]uint32{all[:10], all[10:]}, limit: 16, err: "raise the hard limit"},
		{name: "only standard ones are free", tasks: [][]uint32{all[3:]}, limit: 16, err: "every descriptor below"},
		{name: "a limit below all", tasks: [][]uint32{nil}, limit: 3, err: "every descriptor below"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := withFDs(t, c.tasks...).transport(c.limit)
			wantError(t, err, c.err)
			if got != c.want {
				t.Fatalf("got %d, want %d", got, c.want)
			}
		})
	}
}
