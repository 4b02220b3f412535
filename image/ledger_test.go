package image

import (
	"context"
	"errors"
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

// A file is found whichever was found before.
func TestFindNear(t *testing.T) {
	var l ledger
	for i := range 20 {
		l.add(listed{name: fmt.Sprintf("tcp-stream-%02d.img", i)})
	}
	l.sort()
	for before := -1; before < 25; before++ {
		for i := range 20 {
			if got, ok := l.findNear(fmt.Sprintf("tcp-stream-%02d.img", i), before); got != i || !ok {
				t.Errorf("behind %d: %d, %v; want %d", before, got, ok, i)
			}
		}
		if _, ok := l.findNear("tcp-stream-1.img", before); ok {
			t.Errorf("behind %d: what isn't there is found", before)
		}
	}
}

// Files that were removed are not in the manifest, others of the same name that were made
// since are; and to remove all of very many takes no longer for each.
func TestRemovedFiles(t *testing.T) {
	for _, later := range []bool{false, true} {
		store := memory{}
		r := NewRecorder(store, later)
		write := func(name, what string) {
			f, err := r.Create(name)
			check(t, err)
			_, err = f.WriteAt([]byte(what), 0)
			check(t, errors.Join(err, f.Close()))
		}
		write("a.img", "first")
		write("b.img", "stays")
		write("c.img", "goes")
		check(t, errors.Join(r.Remove("a.img"), r.Remove("c.img"), r.Remove("d.img")))
		write("a.img", "the second one")
		check(t, r.Seal(context.Background(), someInventory()))
		c, err := Check(store)
		check(t, err)
		got := ""
		for i := range c.files.at {
			f := c.files.entry(i)
			got += fmt.Sprintf("%s %d, ", f.name, f.size)
		}
		if got != "a.img 14, b.img 5, " {
			t.Errorf("%q", got)
		}
		check(t, c.Rest(context.Background()))
	}
}

// Of files that were made in each other's place, without being removed before, the
// manifest has the last.
func TestMadeTwice(t *testing.T) {
	for _, later := range []bool{false, true} {
		store := memory{}
		r := NewRecorder(store, later)
		for _, what := range []string{"the first one", "2nd", "third"} {
			for _, name := range []string{"a.img", "b.img"} {
				delete(store, name) // as Overwrite does
				f, err := r.Create(name)
				check(t, err)
				_, err = f.WriteAt([]byte(what+name), 0)
				check(t, errors.Join(err, f.Close()))
			}
		}
		check(t, r.Seal(context.Background(), someInventory()))
		c, err := Check(store)
		check(t, err)
		for _, name := range []string{"a.img", "b.img"} {
			f, err := c.Open(name)
			check(t, err)
			check(t, f.Close())
		}
		check(t, c.Rest(context.Background()))
	}
}

// heap is how much memory is in use, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
