package file

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/memfd"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

func newMemfd(t *testing.T, name string, flags int) int {
	t.Helper()
	n, err := createMemfd(name, flags)
	return own(t, n, err)
}

// putPages writes contents as the memory stage does.
func putPages(t *testing.T, s image.Store, shmid uint64, content []byte) {
	t.Helper()
	w, err := image.NewPagemapWriter(s, image.PagemapShmem, shmid, 1)
	if err != nil {
		t.Fatal(err)
	}
	pages := uint64(len(content)+image.PageSize-1) / image.PageSize
	if err := w.Add(0, pages, image.PagePresent); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := s.Create(image.Pages.FileName(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(append(content, make([]byte, int(pages)*image.PageSize-len(content))...)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// late is what a restore does when all tasks have their memory.
func (r *redo) late() error {
	nodes, err := r.plan.Nodes()
	for _, n := range nodes {
		if l, ok := n.(*memfdNode); ok && err == nil {
			err = l.Late(r.t.Context(), r.env)
		}
	}
	return err
}

func TestMemfdRoundTrip(t *testing.T) {
	n := newMemfd(t, "a name", unix.MFD_ALLOW_SEALING)
	content := []byte(strings.Repeat("0123456789abcdef", 300))
	write(t, n, string(content))
	if err := unix.Fchmod(n, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Seek(n, 77, unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_FUTURE_WRITE
	if _, err := unix.FcntlInt(uintptr(n), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	ro := open(t, fmt.Sprintf("/proc/self/fd/%d", n), unix.O_RDONLY)
	g := self(t)
	g.add(n)
	ino := g.add(ro).Stat.Ino
	g.mustDump()
	r := newRedo(t, g.im)
	putPages(t, r.env.Store, ino, content)
	made := r.mustCreate()
	if err := r.late(); err != nil {
		t.Fatal(err)
	}
	checkMemfd(t, made[1].Int(), "a name", content)
	if pos, _ := unix.Seek(made[1].Int(), 0, unix.SEEK_CUR); pos != 77 {
		t.Errorf("it stands at %d", pos)
	}
	if got, err := unix.FcntlInt(uintptr(made[1].Int()), unix.F_GET_SEALS, 0); err != nil || got != seals {
		t.Errorf("seals are %#x, %v", got, err)
	}
	if flagsOf(t, made[2].Int())&unix.O_ACCMODE != unix.O_RDONLY {
		t.Error("the second description can be written to")
	}
	var a, b unix.Stat_t
	if unix.Fstat(made[1].Int(), &a) != nil || unix.Fstat(made[2].Int(), &b) != nil || a.Ino != b.Ino || a.Mode&0o777 != 0o640 {
		t.Errorf("inodes %d and %d, mode %#o", a.Ino, b.Ino, a.Mode)
	}
}

func checkMemfd(t *testing.T, n int, name string, content []byte) {
	t.Helper()
	if link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n)); link != "/memfd:"+name+" (deleted)" {
		t.Errorf("it is called %s", link)
	}
	got := make([]byte, len(content)+1)
	if m, err := unix.Pread(n, got, 0); err != nil || string(got[:m]) != string(content) {
		t.Errorf("it holds %d bytes, %v; want %d", m, err, len(content))
	}
}

func TestMemfdSealing(t *testing.T) {
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	plan := func(flags uint32) *redo {
		im := memfdImage(inode("x", 10, seals), 0)
		all, _ := im.Entries(image.Files)
		all[0].Message.(*fdinfo.FileEntry).GetMemfd().Flags = &flags
		return newRedo(t, im)
	}
	has := func(r *redo) int {
		got, err := unix.FcntlInt(uintptr(r.mustCreate()[1].Int()), unix.F_GET_SEALS, 0)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := has(plan(unix.O_RDONLY)); got != seals {
		t.Errorf("nobody can write to it, and its seals are %#x", got)
	}
	r := plan(unix.O_RDWR)
	if got := has(r); got != 0 {
		t.Errorf("it is sealed (%#x) before it is mapped", got)
	}
	b := &calls{t: t}
	n := r.plan.Node(1).(*memfdNode)
	for range 2 { // whoever has it, it is sealed once
		if err := n.Finish(b, 7); err != nil {
			t.Fatal(err)
		}
	}
	if want := fmt.Sprintf("[[7 %d %d]]", unix.F_ADD_SEALS, seals); fmt.Sprint(b.argv) != want {
		t.Errorf("queued %v, want %s", b.argv, want)
	}
}

func TestMemfdWithoutSealing(t *testing.T) {
	g := self(t)
	g.add(newMemfd(t, "", 0))
	g.mustDump()
	all, _ := g.im.Entries(image.Memfd)
	e := all[0].Message.(*memfd.MemfdInodeEntry)
	if e.GetSeals() != unix.F_SEAL_SEAL || e.GetName() != "" || e.GetInodeId() != 1 {
		t.Errorf("entry is %v", e)
	}
	r := newRedo(t, g.im)
	made := r.mustCreate()
	if err := r.late(); err != nil {
		t.Fatal(err)
	}
	if got, err := unix.FcntlInt(uintptr(made[1].Int()), unix.F_GET_SEALS, 0); err != nil || got != unix.F_SEAL_SEAL {
		t.Errorf("seals are %#x, %v", got, err)
	}
}

func TestMemfdMapped(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	g := self(t)
	maps, err := g.task.Dir.Maps()
	if err != nil {
		t.Fatal(err)
	}
	for i := range maps {
		if v := &maps[i]; v.Shared && v.Len() == 1<<16 && v.Name == "/dev/zero" {
			if _, err := g.Mapped(g.task, v, unix.O_RDWR); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(g.tree.Files) == 0 {
		t.Fatal("the mapping is not there")
	}
	g.mustDump()
	all, _ := g.im.Entries(image.Memfd)
	if len(all) == 0 || all[0].Message.(*memfd.MemfdInodeEntry).GetName() != "/dev/zero" {
		t.Errorf("entries are %v", all)
	}
	r := newRedo(t, g.im)
	made := r.mustCreate()
	if link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", made[1].Int())); link != "/dev/zero (deleted)" {
		t.Errorf("it is called %s", link)
	}
	if err := r.late(); err != nil {
		t.Error(err)
	}
}

// Images have no place for extended attributes.
func TestMemfdAttribute(t *testing.T) {
	n := newMemfd(t, "x", 0)
	if err := unix.Fsetxattr(n, "trusted.glis", []byte("x"), 0); err != nil {
		testkit.Lacks(t, "attributes of memfds", err, unix.EOPNOTSUPP)
	}
	g := self(t)
	g.add(n)
	mustFail(t, g.dump(), "the extended attribute trusted.glis", "let the program remove")
}

// A deleted file may be called like a memfd.
func TestMemfdFake(t *testing.T) {
	g := self(t)
	f := g.add(newMemfd(t, "x", 0))
	k := &Memfd{}
	if !k.Match(f) {
		t.Error("a memfd is none")
	}
	f.Stat.Dev++
	if k.Match(f) {
		t.Error("a file on another device is a memfd")
	}
}

func TestMemfdHugePages(t *testing.T) {
	n, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC|unix.MFD_HUGETLB)
	if err != nil {
		testkit.Lacks(t, "huge pages (CONFIG_HUGETLBFS)", err, unix.EINVAL, unix.ENODEV, unix.ENOSYS)
	}
	own(t, n, nil)
	g := self(t)
	f := g.add(n)
	if err := g.dump(); err != nil {
		t.Fatal(err)
	}
	e := g.im.rows[image.Memfd.FileName()][0].Message.(*memfd.MemfdInodeEntry)
	if want := unix.MFD_HUGETLB | hugepages.Flag(hugepages.OfDevice(f.Stat.Dev)); e.GetHugetlbFlag() != want || e.GetShmid() == uint32(f.Stat.Ino) {
		t.Errorf("flag %#x, want %#x, id %#x", e.GetHugetlbFlag(), want, e.GetShmid())
	}
}

func memfdImage(e *memfd.MemfdInodeEntry, pos uint64) *images {
	im := &images{}
	f := &memfd.MemfdFileEntry{Id: proto.Uint32(1), Flags: proto.Uint32(2), Pos: proto.Uint64(pos), Fown: noOwner(), InodeId: proto.Uint32(1)}
	_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_MEMFD.Enum(), Memfd: f}, nil)
	if e != nil {
		_ = im.Put(image.Memfd, e, nil)
	}
	return im
}

func inode(name string, size uint64, seals uint32) *memfd.MemfdInodeEntry {
	return &memfd.MemfdInodeEntry{Name: &name, Size: &size, Seals: &seals, InodeId: proto.Uint64(1), Shmid: proto.Uint32(9), Uid: proto.Uint32(0), Gid: proto.Uint32(0)}
}

func TestMemfdHostile(t *testing.T) {
	huge := inode("x", 1, 0)
	huge.HugetlbFlag = proto.Uint32(4)
	part := inode("x", 4096, 0)
	part.HugetlbFlag = proto.Uint32(unix.MFD_HUGETLB | unix.MFD_HUGE_2MB)
	for _, c := range []struct {
		im   *images
		want string
	}{
		{memfdImage(nil, 0), "missing in memfd.img"},
		{memfdImage(inode("x", 1<<63, 0), 0), "can't be"},
		{memfdImage(inode(strings.Repeat("x", 250), 1, 0), 0), "can't be"},
		{memfdImage(inode("x", 1, 1<<20), 0), "can't be"},
		{memfdImage(inode("x", 1, 0), 1<<63), "none is that long"},
		{memfdImage(huge, 0), "huge pages of no size that can be"},
		{memfdImage(part, 0), "4096 bytes in huge pages"},
	} {
		_, err := planAll(c.im, nil)
		mustFail(t, err, c.want)
	}
	// Contents behind the end of the file.
	r := newRedo(t, memfdImage(inode("x", 10, 0), 0))
	putPages(t, r.env.Store, 9, make([]byte, 3*image.PageSize))
	mustFail(t, r.create(), "behind the end of the file")
}

func TestMemfdString(t *testing.T) {
	p, err := planAll(memfdImage(inode("x", 10, 0), 3), nil)
	if err != nil || p.Node(1).String() != `memfd 0x1: "x", 10 bytes, flags 02, at 3` {
		t.Error(p.Node(1), err)
	}
	if _, ok := p.Node(1).(plan.Filler); !ok {
		t.Error("it has no Fill")
	}
}

// A memfd of which can't be told that it is one isn't taken for a deleted file:
// the dump fails.
func TestMemfdUntold(t *testing.T) {
	n := newMemfd(t, "x", 0)
	f := &scan.File{FD: int32(n), Link: memfdPrefix + "x" + deletedSuffix}
	if err := f.Stat.At(n, ""); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: 0, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	k := &Memfd{}
	matches := k.Match(f)
	_, err := k.device()
	if err2 := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err2 != nil {
		t.Fatal(err2)
	}
	if !matches || !errors.Is(err, unix.EMFILE) {
		t.Errorf("it is taken: %v, %v", matches, err)
	}
}
