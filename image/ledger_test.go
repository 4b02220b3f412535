package image

import (
	"context"
	"fmt"
	"runtime"
	"testing"
)

// mostPerFile is how much memory what is known of a file takes, in bytes, while a
// checkpoint is written and when it is read.
const mostPerFile = 120

// Of a file that was written, and of one that is read, little is kept: there are seven for
// each process.
func TestLittlePerFile(t *testing.T) {
	const files = 20_000
	store := memory{}
	r := NewRecorder(store, false)
	names := make([]string, files)
	for i := range names {
		names[i] = fmt.Sprintf("core-%d.img", i)
		store[names[i]] = &memFile{b: make([]byte, 0, 1)} // its own memory does not count
	}
	before := heap()
	for i := range names {
		f := recordedFile{by: r, rec: recorded{listed: listed{name: names[i]}}, WriteFile: store[names[i]]}
		_, err := f.Write([]byte("x"))
		check(t, err)
		check(t, f.Close())
	}
	if per := (heap() - before) / files; per > mostPerFile {
		t.Errorf("a file that was written takes %d bytes, want at most %d", per, mostPerFile)
	}
	check(t, r.Seal(context.Background(), someInventory()))
	runtime.KeepAlive(r)

	before = heap()
	c, err := Check(store)
	check(t, err)
	for _, name := range names {
		f, err := c.Open(name)
		check(t, err)
		check(t, f.Close())
	}
	if per := (heap() - before) / files; per > mostPerFile {
		t.Errorf("a file that was read takes %d bytes, want at most %d", per, mostPerFile)
	}
	check(t, c.Rest(context.Background()))
}

// heap is how much memory is in use, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
