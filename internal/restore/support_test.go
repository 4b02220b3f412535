package restore

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/options"
)

// must stops the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError fails the test unless err says so; "" is no error.
func wantError(t testing.TB, err error, text string) {
	t.Helper()
	switch {
	case text == "" && err != nil:
		t.Fatalf("got %v", err)
	case text != "" && (err == nil || !strings.Contains(err.Error(), text)):
		t.Fatalf("got %v, want %q", err, text)
	}
}

// memory is a store of byte slices.
type memory map[string][]byte

type memoryFile struct {
	*bytes.Reader
	s    memory
	name string
}

func (m memory) Create(name string) (image.WriteFile, error) {
	if _, ok := m[name]; ok {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	m[name] = nil
	return &memoryFile{s: m, name: name}, nil
}

func (m memory) Open(name string) (image.ReadFile, error) {
	b, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memoryFile{Reader: bytes.NewReader(b)}, nil
}

func (m memory) List() ([]string, error)  { return slices.Sorted(maps.Keys(m)), nil }
func (m memory) Remove(name string) error { delete(m, name); return nil }
func (m memory) Sync() error              { return nil }
func (m memory) String() string           { return "memory" }

func (f *memoryFile) Write(p []byte) (int, error) {
	f.s[f.name] = append(f.s[f.name], p...)
	return len(p), nil
}

func (f *memoryFile) WriteAt([]byte, int64) (int, error) { return 0, fs.ErrInvalid }
func (f *memoryFile) Sync() error                        { return nil }
func (f *memoryFile) Close() error                       { return nil }
func (f *memoryFile) File() *os.File                     { return nil }

// sleepPID is the task of the checkpoint that sleep returns.
const sleepPID = 343

// sleep is a checkpoint made by criu 4.2. Its pages are not kept, so its vdso
// is made an ordinary mapping.
func sleep(t testing.TB) memory {
	t.Helper()
	const dir = "../../image/testdata/sleep/"
	entries, err := os.ReadDir(dir)
	must(t, err)
	s := memory{image.Pages.FileName(1): make([]byte, 1<<20)}
	for _, e := range entries {
		s[e.Name()], err = os.ReadFile(dir + e.Name())
		must(t, err)
	}
	alter(t, s, func(e *mm.MmEntry) {
		for _, v := range e.Vmas {
			*v.Status &^= 1<<3 | 1<<12
		}
	}, image.MM, sleepPID)
	// It was made on a CPU with AVX-512.
	alter(t, s, func(e *criu_core.CoreEntry) {
		x := e.ThreadInfo.Fpregs.Xsave
		*x.XstateBv &= 1<<3 - 1
		x.OpmaskReg, x.ZmmUpper, x.Hi16Zmm, x.Pkru = nil, nil, nil, nil
	}, image.Core, sleepPID)
	return s
}

// put replaces an image.
func put[T proto.Message](t testing.TB, s memory, row *image.Row, all []T, ids ...uint32) {
	t.Helper()
	delete(s, row.FileName(ids...))
	must(t, image.WriteAll(s, row, all, ids...))
}

// alter changes the one entry of an image.
func alter[T proto.Message](t testing.TB, s memory, f func(T), row *image.Row, ids ...uint32) {
	t.Helper()
	e, err := image.ReadOne[T](s, row, ids...)
	must(t, err)
	f(e)
	put(t, s, row, []T{e}, ids...)
}

// process is an entry of pstree.img.
func process(pid, ppid, pgid, sid uint32, threads ...uint32) *pstree.PstreeEntry {
	return &pstree.PstreeEntry{Pid: &pid, Ppid: &ppid, Pgid: &pgid, Sid: &sid, Threads: threads}
}

// p is a task of a synthetic tree.
type p struct {
	pid, ppid, pgid, sid uint32
	zombie               bool
	vm, files, fs        uint32 // 0: of its own
}

// treeOf makes a tree as read does, without what planning does not need.
func treeOf(t testing.TB, all ...p) *tree {
	t.Helper()
	tr := &tree{byPID: map[uint32]*task{}}
	for i, e := range all {
		must(t, tr.add(process(e.pid, e.ppid, e.pgid, e.sid)))
		made := tr.tasks[i]
		if made.zombie = e.zombie; e.zombie {
			continue
		}
		own := func(id uint32) *uint32 {
			if id == 0 {
				id = 1<<23 + e.pid
			}
			return &id
		}
		made.ids = &criu_core.TaskKobjIdsEntry{VmId: own(e.vm), FilesId: own(e.files), FsId: own(e.fs)}
	}
	return tr
}

// withShellJob are the options of a restore.
func withShellJob(yes bool) *options.Restore {
	o := &options.Restore{}
	o.ShellJob = yes
	return o
}
