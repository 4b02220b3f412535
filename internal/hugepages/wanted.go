package hugepages

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"glis.dev/glis/internal/fd"
)

// Range is a part of a file or mapping, in bytes.
type Range struct{ Start, End uint64 }

// Wanted counts the huge pages that a restore needs at least.
type Wanted struct {
	bytes  map[uint64]uint64  // by size of page
	mapped map[uint32][]Range // of files, by id: what mappings reserve
}

// Add counts memory of pages of size that nothing else is in.
func (w *Wanted) Add(size, bytes uint64) {
	if size == 0 {
		return
	}
	if w.bytes == nil {
		w.bytes = map[uint64]uint64{}
	}
	w.bytes[size] += (bytes + size - 1) &^ (size - 1)
}

// Map notes that a file's range is mapped in a way that reserves pages.
func (w *Wanted) Map(file uint32, r Range) {
	if w.mapped == nil {
		w.mapped = map[uint32][]Range{}
	}
	w.mapped[file] = append(w.mapped[file], r)
}

// AddFile counts what a file needs that is known by these ids: what is mapped,
// and what it holds.
func (w *Wanted) AddFile(size uint64, ids []uint32, holds []Range) {
	if size == 0 {
		return
	}
	all := slices.Clone(holds)
	for _, id := range ids {
		all = append(all, w.mapped[id]...)
	}
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	at := uint64(0)
	for _, r := range all {
		start, end := max(at, r.Start&^(size-1)), (r.End+size-1)&^(size-1)
		if start < end {
			w.Add(size, end-start)
			at = end
		}
	}
}

// Check refuses what the machine has not enough free huge pages for. If it does
// not tell how many there are, the kernel will say so later.
func (w *Wanted) Check() error {
	var errs []error
	for size, bytes := range w.bytes {
		free, ok := available(size)
		if need := bytes / size; ok && need > free {
			errs = append(errs, fmt.Errorf("%d huge pages of %d KiB are needed, %d are free: have more of them (%s/nr_hugepages), then restore again", need, size>>10, free, pool(size)))
		}
	}
	return errors.Join(errs...)
}

func pool(size uint64) string {
	return fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB", size>>10)
}

// available tells how many pages of a size can still be had: free ones that
// nobody has reserved, and those that the kernel may make itself.
func available(size uint64) (uint64, bool) {
	var n [4]int64
	for i, name := range [...]string{"free_hugepages", "nr_overcommit_hugepages", "resv_hugepages", "surplus_hugepages"} {
		text, err := fd.ReadFile(pool(size) + "/" + name)
		if err != nil {
			return 0, false
		}
		if n[i], err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return 0, false
		}
	}
	return uint64(max(n[0]-n[2], 0) + max(n[1]-n[3], 0)), true
}
