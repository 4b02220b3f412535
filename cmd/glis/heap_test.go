package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
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

// TestGrowHeap: what was mapped is given to the allocator, without a collection,
// as soon as the goroutine has ended that had it.
func TestGrowHeap(t *testing.T) {
	before := memStats()
	growHeap()
	after := memStats()
	for end := time.Now().Add(time.Minute); after.StackInuse > before.StackInuse+(8<<20) && time.Now().Before(end); after = memStats() {
		runtime.Gosched()
	}
	if n := after.HeapIdle - after.HeapReleased; runtime.GOARCH == "amd64" && n < 30<<20 {
		t.Errorf("%d bytes of heap are mapped and free", n)
	}
	if after.HeapInuse+after.StackInuse > before.HeapInuse+before.StackInuse+(8<<20) {
		t.Errorf("heap and stacks: %d and %d bytes, %d and %d before: the piece was not released", after.HeapInuse, after.StackInuse, before.HeapInuse, before.StackInuse)
	}
	if after.NumGC != before.NumGC {
		t.Error("garbage was collected")
	}
}

func memStats() (m runtime.MemStats) {
	runtime.ReadMemStats(&m)
	return m
}
