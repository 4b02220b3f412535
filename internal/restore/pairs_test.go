package restore

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Pairs get to where they belong, whatever is in use and in whatever order they
// come, and nothing that was there is hit.
func TestCouplesArrive(t *testing.T) {
	for range 2000 {
		table := newFDTable()
		numbers := rand.Perm(40)
		for _, n := range numbers[:rand.IntN(20)] {
			table.take(int32(n))
		}
		there := map[int32]int{} // which end is where
		numbers = slices.DeleteFunc(numbers, func(n int) bool { return table.has(int32(n)) })
		var pairs []couple
		for i := 0; i+1 < len(numbers) && len(pairs) < 8; i += 2 {
			pairs = append(pairs, couple{own: int32(numbers[i]), other: int32(numbers[i+1])})
		}
		for i := range pairs {
			for end, m := range pairs[i].arrive(table) {
				from, to := m[0], m[1]
				if from != to && (table.has(to) || !table.has(from)) {
					t.Fatalf("from %d to %d, in use are %b", from, to, table.few)
				}
				if from != to {
					table.free(from)
					table.take(to)
				}
				there[to] = 2*i + end
			}
		}
		for i, c := range pairs {
			if !table.has(c.own) || !table.has(c.other) || there[c.own] != 2*i || there[c.other] != 2*i+1 {
				t.Fatalf("pair %d of %d, %d is not there: %v", i, c.own, c.other, there)
			}
		}
	}
}
