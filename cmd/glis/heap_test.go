package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// TestImagesIn: the pages don't count, many small files do.
func TestImagesIn(t *testing.T) {
	write := func(dir, name string, size int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	small, large, many := t.TempDir(), t.TempDir(), t.TempDir()
	write(small, "pages-1.img", 2*manyEntries)
	write(small, "files.img", 4<<10)
	write(large, "files.img", manyEntries)
	for i := range manyEntries / perFile {
		write(many, "tcp-stream-"+strconv.Itoa(i)+".img", 0)
	}
	for dir, want := range map[string]bool{small: false, large: true, many: true, filepath.Join(small, "missing"): false} {
		if metadata, _ := imagesIn(dir); metadata >= manyEntries != want {
			t.Errorf("imagesIn(%s) = %d, want much: %v", dir, metadata, want)
		}
	}
	if _, pages := imagesIn(small); pages != 2*manyEntries {
		t.Errorf("%d bytes of pages", pages)
	}
}

// TestGrowHeap: what was mapped is given to the allocator.
func TestGrowHeap(t *testing.T) {
	before := heapInUse(t)
	growHeap()
	if after := heapInUse(t); after > before+largeHeap/2 {
		t.Errorf("%d bytes of heap are in use, %d were: the piece was not released", after, before)
	}
}

func heapInUse(t *testing.T) int64 {
	t.Helper()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
