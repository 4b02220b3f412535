package image

import (
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func randomBytes(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func TestJoined(t *testing.T) {
	table := crc32.MakeTable(crc32.Castagnoli)
	b := randomBytes(3 << 20)
	for _, n := range []int{0, 1, 2, 3, 7, 64, 4095, 4096, 1<<20 + 1, 3 << 20} {
		for _, at := range []int{0, 1, n / 3, n} {
			at = min(at, n)
			got := joined(crc32.Checksum(b[:at], table), crc32.Checksum(b[at:n], table), int64(n-at))
			if want := crc32.Checksum(b[:n], table); got != want {
				t.Errorf("%d and %d bytes: %08x, want %08x", at, n-at, got, want)
			}
		}
	}
}

// sumsOf takes the checksums the plain way.
func sumsOf(b []byte) (out []uint32) {
	for c := range slices.Chunk(b, ChunkSize) {
		out = append(out, checksum(0, c))
	}
	return out
}

// Pieces of any size come in any order, from several goroutines.
func TestSumsInAnyOrder(t *testing.T) {
	b := randomBytes(3*ChunkSize + 12345)
	type piece struct{ from, to int }
	var all []piece
	for at := 0; at < len(b); {
		to := min(len(b), at+1+rand.IntN(300<<10))
		all = append(all, piece{at, to})
		at = to
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var s sums
	c := new(checking)
	c.begin("x", int64(len(b)), sumsOf(b))
	var g sync.WaitGroup
	for part := range slices.Chunk(all, len(all)/3+1) {
		g.Go(func() {
			for _, p := range part {
				s.wrote(b[p.from:p.to], int64(p.from))
				if err := c.read(b[p.from:p.to], int64(p.from)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	if got, ok := s.all(); !ok || !slices.Equal(got, sumsOf(b)) {
		t.Errorf("%v %x, want %x", ok, got, sumsOf(b))
	}
	if rest := c.rest(); len(rest) != 0 {
		t.Errorf("chunks %v were not seen", rest)
	}
}

// What is written twice, or not at all, has no checksum that could be wrong.
func TestSumsOfUnusualFiles(t *testing.T) {
	b := randomBytes(ChunkSize)
	var hole, again sums
	hole.wrote(b[4096:], 4096)
	if _, ok := hole.all(); ok {
		t.Error("a file with a hole has checksums")
	}
	again.wrote(b[100:], 0)
	again.wrote(b[:50], 0)
	if _, ok := again.all(); ok {
		t.Error("a file that was partly overwritten has checksums")
	}
	again.wrote(b, 0)
	if got, ok := again.all(); !ok || !slices.Equal(got, sumsOf(b)) {
		t.Errorf("%x, want %x", got, sumsOf(b))
	}
	var empty sums
	if got, ok := empty.all(); !ok || len(got) != 0 {
		t.Error(got, ok)
	}
}
