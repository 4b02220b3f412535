package main

import (
	"io/fs"
	"os"
	"runtime/debug"
	"strings"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/arch/start"
)

// growHeap has the heap grow in huge pages, for work on many things at once. To
// have the kernel find 512 small pages, each by a fault of its own, takes longer
// than all that is done with them, and most of it while the target stands
// still. For the same reason garbage is collected only when the memory limit is near.
func growHeap() {
	arch.GrowHeap()
	start.Later(laterChunks)
	debug.SetGCPercent(-1)
}

// laterChunks is how many times the heap may grow, by 4 MiB each, before something has
// to be collected (firstLimit).
const laterChunks = 4

// manyEntries is how much metadata, in bytes, a checkpoint has that is worth a
// large heap: a hundred descriptors, or twenty tasks.
const manyEntries = 96 << 10

// perFile is added for every file: to read one takes memory, too.
const perFile = 1 << 10

// imagesIn returns how much metadata, and how much memory, a checkpoint holds, in
// bytes: if the metadata is manyEntries, only so much of it. What can't be read is
// complained about by whoever needs it.
func imagesIn(dir string) (metadata, pages int64) {
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return 0, 0
	}
	defer d.Close() //nolint:errcheck // only read from

	entries, _ := d.ReadDir(manyEntries/perFile + 1) // more are too many anyway
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "pages-") {
			pages += sizeOf(e)
		} else {
			metadata += perFile + sizeOf(e)
		}
	}
	return metadata, pages
}

func sizeOf(e fs.DirEntry) int64 {
	info, err := e.Info()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}
