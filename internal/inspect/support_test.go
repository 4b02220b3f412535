package inspect

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"slices"
	"testing"

	"glis.dev/glis/image"
)

// memory is a store of byte slices.
type memory map[string]*memFile

type memFile struct{ b []byte }

func (m memory) Create(name string) (image.WriteFile, error) {
	if _, ok := m[name]; ok {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	f := &memFile{}
	m[name] = f
	return f, nil
}

func (m memory) Open(name string) (image.ReadFile, error) {
	f, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (m memory) List() ([]string, error)  { return slices.Sorted(maps.Keys(m)), nil }
func (m memory) Remove(name string) error { delete(m, name); return nil }
func (m memory) Sync() error              { return nil }
func (m memory) String() string           { return "memory" }

func (f *memFile) Write(p []byte) (int, error) {
	f.b = append(f.b, p...)
	return len(p), nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.b = append(f.b, make([]byte, max(0, int(off)+len(p)-len(f.b)))...)
	return copy(f.b[off:], p), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.b).ReadAt(p, off)
}

func (f *memFile) Size() int64    { return int64(len(f.b)) }
func (f *memFile) Sync() error    { return nil }
func (f *memFile) Close() error   { return nil }
func (f *memFile) File() *os.File { return nil }

// with is a copy of the store in which one file has other contents.
func (m memory) with(name string, b []byte) memory {
	c := maps.Clone(m)
	c[name] = &memFile{b}
	return c
}

// check stops the test on an error.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sleep is a checkpoint made by criu 4.2. Its pages are not kept.
func sleep(t testing.TB) memory {
	t.Helper()
	const dir = "../../image/testdata/sleep/"
	entries, err := os.ReadDir(dir)
	check(t, err)
	s := memory{image.Pages.FileName(1): {make([]byte, 1<<20)}}
	for _, e := range entries {
		b, err := os.ReadFile(dir + e.Name())
		check(t, err)
		s[e.Name()] = &memFile{b}
	}
	return s
}
