package dump

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"glis.dev/glis/image"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/fdinfo"
	fsimg "glis.dev/glis/image/criu/fs"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/options"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dirOf(t *testing.T) *image.Dir {
	t.Helper()
	d, err := image.OpenDir(t.TempDir())
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func names(t *testing.T, s image.Store) []string {
	t.Helper()
	list, err := s.List()
	must(t, err)
	return list
}

func descriptor(n uint32) *fdinfo.FdinfoEntry {
	return &fdinfo.FdinfoEntry{Id: proto.Uint32(n), Flags: proto.Uint32(0), Type: fdinfo.FdTypes_REG.Enum(), Fd: proto.Uint32(n)}
}

func piped(id uint32, payload []byte) *pipedata.PipeDataEntry {
	return &pipedata.PipeDataEntry{PipeId: &id, Bytes: proto.Uint32(uint32(len(payload)))}
}

func TestSinkOrder(t *testing.T) {
	d := dirOf(t)
	s := newSink(d)
	want := []uint32{5, 3, 9, 1}
	for _, n := range want {
		must(t, s.Put(image.FdInfo, descriptor(n), nil, 2))
		must(t, s.Put(image.FdInfo, descriptor(n+100), nil, 3))
	}
	s.Touch(image.FdInfo, 4)
	if got := names(t, d); len(got) != 0 {
		t.Errorf("%v was written before finish", got)
	}
	must(t, s.finish(context.Background()))
	for id, plus := range map[uint32]uint32{2: 0, 3: 100} {
		all, err := image.ReadAll[*fdinfo.FdinfoEntry](d, image.FdInfo, id)
		must(t, err)
		for i, e := range all {
			if len(all) != len(want) || e.GetFd() != want[i]+plus {
				t.Errorf("table %d: entry %d of %d is %v", id, i, len(all), e)
			}
		}
	}
	if all, err := image.ReadAll[*fdinfo.FdinfoEntry](d, image.FdInfo, 4); err != nil || len(all) != 0 {
		t.Errorf("a file that was touched: %v, %v", all, err)
	}
	must(t, s.close())
}

// What would take too much memory is written early, and nothing of it is
// lost, twice there, or out of order.
func TestSinkSpill(t *testing.T) {
	d := dirOf(t)
	s := newSink(d)
	const size = 1<<20 - 8
	for i := range uint32(2*most>>20 + 3) {
		must(t, s.Put(image.PipesData, piped(i, make([]byte, size)), bytes.Repeat([]byte{byte(i)}, size)))
		must(t, s.Put(image.FdInfo, descriptor(i), nil, 2))
		if s.held > most {
			t.Fatalf("%d bytes are held", s.held)
		}
	}
	if !slices.Contains(names(t, d), "pipes-data.img") {
		t.Error("nothing was written early")
	}
	must(t, s.finish(context.Background()))
	rd, err := image.Open(d, image.PipesData)
	must(t, err)
	defer rd.Close()
	for i := range uint32(2*most>>20 + 3) {
		m, err := rd.NextAny()
		must(t, err)
		if got := m.(*pipedata.PipeDataEntry).GetPipeId(); got != i {
			t.Fatalf("entry %d is of pipe %d", i, got)
		}
		b, err := rd.PayloadBytes(size)
		must(t, err)
		if len(b) != size || b[0] != byte(i) || b[size-1] != byte(i) {
			t.Fatalf("pipe %d: not its payload", i)
		}
	}
	if all, err := image.ReadAll[*fdinfo.FdinfoEntry](d, image.FdInfo, 2); err != nil || len(all) != 2*most>>20+3 {
		t.Errorf("%d descriptors, %v", len(all), err)
	}
}

// Entries of many threads are encoded, but no file is made before the tree runs
// on; none is changed by that, and a dump that has to end does.
func TestSinkPacks(t *testing.T) {
	d := dirOf(t)
	s := newSink(d)
	const many = 3 * mostLoose / coreBytes
	entry := func(n uint32) *core.CoreEntry {
		return &core.CoreEntry{Mtype: core.CoreEntry_X86_64.Enum(), ThreadCore: &core.ThreadCoreEntry{
			FutexRla: proto.Uint64(uint64(n)), FutexRlaLen: proto.Uint32(24),
		}}
	}
	for n := range uint32(many) {
		must(t, s.Put(image.Core, entry(n), nil, n))
	}
	if got := names(t, d); len(got) > 0 || s.held == 0 || s.loose > mostLoose {
		t.Fatalf("%d files, %d bytes held, %d loose", len(got), s.held, s.loose)
	}
	must(t, s.finish(context.Background()))
	for n := range uint32(many) {
		got, err := image.ReadOne[*core.CoreEntry](d, image.Core, n)
		must(t, err)
		if got.GetThreadCore().GetFutexRla() != uint64(n) {
			t.Fatalf("thread %d: %v", n, got)
		}
	}
	s, late := newSink(d), errors.New("too late")
	s.ended = func() error { return late }
	var err error
	for n := uint32(0); err == nil && n < many; n++ {
		err = s.Put(image.Core, entry(n), nil, n)
	}
	if !errors.Is(err, late) {
		t.Errorf("a dump that has to end: %v", err)
	}
	// An entry that lacks what it must have is named.
	s = newSink(d)
	must(t, s.Put(image.Core, &core.CoreEntry{}, nil, 7))
	if err := s.pack(); err == nil || !strings.Contains(err.Error(), "core-7.img") {
		t.Errorf("an incomplete entry: %v", err)
	}
}

// failing is a store that fails to create files, or to write what is in them.
type failing struct {
	*image.Dir
	create, write error
	mu            sync.Mutex
	open          int
}

type failingFile struct {
	image.WriteFile
	s *failing
}

func (s *failing) Create(name string) (image.WriteFile, error) {
	if s.create != nil {
		return nil, s.create
	}
	f, err := s.Dir.Create(name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
	return failingFile{f, s}, nil
}

func (f failingFile) Write(p []byte) (int, error) {
	if f.s.write != nil {
		return 0, f.s.write
	}
	return f.WriteFile.Write(p)
}

func (f failingFile) Close() error {
	f.s.mu.Lock()
	f.s.open--
	f.s.mu.Unlock()
	return f.WriteFile.Close()
}

func TestSinkFails(t *testing.T) {
	bad := errors.New("the disk is full")
	for _, c := range []struct {
		name  string
		store *failing
		size  int
	}{
		{"create", &failing{create: bad}, 10},
		{"write", &failing{write: bad}, 10},
		{"write of much", &failing{write: bad}, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.store.Dir = dirOf(t)
			s := newSink(c.store)
			for i := range uint32(5) {
				must(t, s.Put(image.FS, &fsimg.FsEntry{CwdId: &i, RootId: &i}, nil, i))
			}
			must(t, s.Put(image.PipesData, piped(1, make([]byte, c.size)), make([]byte, c.size)))
			if err := s.finish(context.Background()); !errors.Is(err, bad) {
				t.Fatalf("finish: %v", err)
			}
			_ = s.close() // may say it again
			if c.store.open != 0 {
				t.Errorf("%d files are left open", c.store.open)
			}
			must(t, s.close())
		})
	}
}

func TestSinkSpillFails(t *testing.T) {
	bad := errors.New("the disk is full")
	store := &failing{Dir: dirOf(t), create: bad}
	s := newSink(store)
	payload := make([]byte, 1<<20)
	var err error
	for i := uint32(0); err == nil && i < most>>20+2; i++ {
		err = s.Put(image.PipesData, piped(i, payload), payload)
	}
	if !errors.Is(err, bad) {
		t.Fatalf("got %v", err)
	}
	must(t, s.close())
}

// A payload that is not as long as its entry says must not be written.
func TestSinkBadPayload(t *testing.T) {
	s := newSink(dirOf(t))
	must(t, s.Put(image.PipesData, piped(1, make([]byte, 9)), make([]byte, 8)))
	if err := s.finish(context.Background()); err == nil {
		t.Error("a payload of another length was written")
	}
	_ = s.close()
}

func TestCheckStore(t *testing.T) {
	d := dirOf(t)
	path := d.String()
	dump := newDump(&options.Dump{}, d, nil)
	must(t, dump.checkStore())
	must(t, os.WriteFile(path+"/dump.log", nil, 0o600))
	must(t, os.Mkdir(path+"/core-1.img", 0o700)) // no file
	must(t, dump.checkStore())
	must(t, os.WriteFile(path+"/core-2.img", nil, 0o600))
	err := dump.checkStore()
	if err == nil || !strings.Contains(err.Error(), path+" holds another checkpoint (core-2.img)") {
		t.Errorf("got %v", err)
	}
}

func TestDiscard(t *testing.T) {
	d := dirOf(t)
	path := d.String()
	dump := newDump(&options.Dump{}, d, nil)
	dump.ctx = t.Context()
	must(t, os.WriteFile(path+"/dump.log", nil, 0o600))
	must(t, os.WriteFile(path+"/pages-1.img", []byte("pages"), 0o600))
	must(t, dump.sink.Put(image.FdInfo, descriptor(1), nil, 2))
	must(t, dump.sink.spill())
	if got := names(t, d); !slices.Equal(got, []string{"dump.log", "fdinfo-2.img", "pages-1.img"}) {
		t.Fatalf("there is %v", got)
	}
	must(t, dump.discard())
	if got := names(t, d); !slices.Equal(got, []string{"dump.log"}) {
		t.Errorf("%v is left", got)
	}
	must(t, dump.discard())
}

// stuck is a store from which nothing can be removed.
type stuck struct {
	*image.Dir
	err error
}

func (s stuck) Remove(string) error { return s.err }

func TestDiscardFails(t *testing.T) {
	d := dirOf(t)
	must(t, os.WriteFile(d.String()+"/pages-1.img", nil, 0o600))
	dump := newDump(&options.Dump{}, stuck{d, fs.ErrPermission}, nil)
	dump.ctx = t.Context()
	if err := dump.discard(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
	dump = newDump(&options.Dump{}, stuck{d, fs.ErrNotExist}, nil)
	must(t, dump.discard())
}

func TestNewRunID(t *testing.T) {
	a, b := newRunID(), newRunID()
	if a == b || len(a) != 36 || a[14] != '4' || !strings.ContainsRune("89ab", rune(a[19])) {
		t.Errorf("%s and %s are no random UUIDs", a, b)
	}
}

// kcmp(2) says 1 for less and 2 for more.
func TestOrder(t *testing.T) {
	for r, want := range []int{0, -1, 1, 0} {
		if got := order(r); got != want {
			t.Errorf("%d: got %d, want %d", r, got, want)
		}
	}
	if got, err := linux.Kcmp(os.Getpid(), os.Getpid(), linux.KCMP_VM, 0, 0); err == nil && order(got) != 0 {
		t.Errorf("a task is not equal to itself: %d", got)
	}
}

func TestSharers(t *testing.T) {
	a, b, z := &scan.Task{PID: 1}, &scan.Task{PID: 2}, &scan.Task{PID: 3, Zombie: true}
	a.IDs.VM, b.IDs.VM, z.IDs.VM = 2, 3, 2
	tree := &scan.Tree{Tasks: []*scan.Task{a, b, z}}
	if x, y := sharers(tree); x != nil {
		t.Errorf("%v shares with %v", x, y)
	}
	b.IDs.VM = 2
	if x, y := sharers(tree); x != a || y != b {
		t.Errorf("got %v and %v, want %v and %v", x, y, a, b)
	}
}
