package file

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ghost "glis.dev/glis/image/criu/ghost-file"
	"glis.dev/glis/image/criu/regfile"
	remap "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// store writes what is in memory where a restore reads it.
func (i *images) store(t *testing.T, s image.Store) {
	t.Helper()
	for name, all := range i.rows {
		row, ids, ok := image.RowFor(name)
		if !ok || row != image.GhostFile {
			continue
		}
		w, err := image.Create(s, row, uint32(ids[0]))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if e.Payload == nil {
				err = w.Put(e.Message)
			} else {
				err = w.PutPayload(e.Message, e.Payload)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range all {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// A deleted file, in a directory that is gone, too, comes back with the name
// it had, and leaves nothing there.
func TestGhost(t *testing.T) {
	dir := t.TempDir()
	name := dir + "/a/b/file"
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	n, err := unix.Open(name, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	own(t, n, err)
	if _, err := unix.Pwrite(n, []byte("contents"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir + "/a"); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	f := g.add(n)
	g.mustDump()
	r := newRedo(t, g.im)
	g.im.store(t, r.env.Store)
	again := r.mustCreate()[plan.ID(f.ID)]
	b := make([]byte, 100)
	if k, err := unix.Pread(again.Int(), b, 1<<20); err != nil || string(b[:k]) != "contents" {
		t.Errorf("%q, %v", b[:k], err)
	}
	if f := g.add(again.Int()); f.Link != name+deletedSuffix || f.Stat.Nlink != 0 || f.Stat.Mode != unix.S_IFREG|0o640 || f.Stat.Size != 1<<20+8 {
		t.Errorf("%s, %+v", f.Link, f.Stat)
	}
	if left := names(t, dir); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// Somebody else's file with the name of a deleted one stays as it is.
func TestGhostNameTaken(t *testing.T) {
	dir := t.TempDir()
	name := dir + "/file"
	n, err := unix.Open(name, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	own(t, n, err)
	sub := dir + "/sub"
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, sub, unix.O_RDONLY)
	if err := os.Remove(sub); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	f, fd := g.add(n), g.add(d)
	g.mustDump()
	if err := os.WriteFile(name, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sub, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRedo(t, g.im)
	g.im.store(t, r.env.Store)
	made := r.mustCreate()
	if f := g.add(made[plan.ID(f.ID)].Int()); f.Stat.Nlink != 0 || f.Stat.Size != 0 {
		t.Errorf("%s, %+v", f.Link, f.Stat)
	}
	if f := g.add(made[plan.ID(fd.ID)].Int()); f.Stat.Nlink != 0 || f.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("%s, %+v", f.Link, f.Stat)
	}
	if text, _ := os.ReadFile(name); string(text) != "another" || names(t, dir) != "file sub" {
		t.Errorf("%q, %s", text, names(t, dir))
	}
}

// A deleted file's directory is gone, too, and its name is something else by now, at
// the dump or since: the file comes back beside that, which stays as it is.
func TestGhostDirectoryReplaced(t *testing.T) {
	replace := map[string]func(dir string) error{
		"dangling":  func(dir string) error { return os.Symlink("/nonexistent", dir+"/s") },
		"file":      func(dir string) error { return os.WriteFile(dir+"/s", nil, 0o600) },
		"elsewhere": func(dir string) error { return os.Symlink(dir+"/other", dir+"/s") },
		"loop":      func(dir string) error { return os.Symlink("s", dir+"/s") },
	}
	for how, by := range replace {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %v", how, late), func(t *testing.T) { ghostReplaced(t, by, how == "elsewhere", late) })
		}
	}
}

func ghostReplaced(t *testing.T, by func(dir string) error, leads, late bool) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/s/sub/deep", 0o755), os.Mkdir(dir+"/other", 0o755)); err != nil {
		t.Fatal(err)
	}
	n, err := unix.Open(dir+"/s/sub/file", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	own(t, n, err)
	if _, err := unix.Pwrite(n, []byte("contents"), 0); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir+"/s/sub/deep", unix.O_RDONLY)
	if err := os.RemoveAll(dir + "/s"); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	f, fd := g.add(n), g.add(d)
	if late {
		g.mustDump()
	}
	if err := by(dir); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	if !late {
		g.mustDump()
	}
	r := newRedo(t, g.im)
	g.im.store(t, r.env.Store)
	made := r.mustCreate()
	want := dir + "/s.glis-0/sub/"
	if f := g.add(made[plan.ID(f.ID)].Int()); f.Stat.Nlink != 0 || f.Stat.Size != 8 || f.Link != want+"file"+deletedSuffix {
		t.Errorf("%s, %+v", f.Link, f.Stat)
	}
	if f := g.add(made[plan.ID(fd.ID)].Int()); f.Stat.Nlink != 0 || f.Stat.Mode&unix.S_IFMT != unix.S_IFDIR || f.Link != want+"deep"+deletedSuffix {
		t.Errorf("%s, %+v", f.Link, f.Stat)
	}
	if names(t, dir) != before || names(t, dir+"/other") != "" {
		t.Errorf("left: %s, %s", names(t, dir), names(t, dir+"/other"))
	}
}

// A deleted file whose directory has moved behind a link since the dump is made there,
// where the program may yet give it a name.
func TestGhostDirectoryMoved(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/s", 0o755); err != nil {
		t.Fatal(err)
	}
	n, err := unix.Open(dir+"/s/file", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	own(t, n, errors.Join(err, os.Remove(dir+"/s/file")))
	g := self(t)
	f := g.add(n)
	g.mustDump()
	if err := errors.Join(os.Rename(dir+"/s", dir+"/other"), os.Symlink(dir+"/other", dir+"/s")); err != nil {
		t.Fatal(err)
	}
	r := newRedo(t, g.im)
	g.im.store(t, r.env.Store)
	if f := g.add(r.mustCreate()[plan.ID(f.ID)].Int()); f.Stat.Nlink != 0 || f.Link != dir+"/other/file"+deletedSuffix {
		t.Errorf("%s, %+v", f.Link, f.Stat)
	}
}

// A name that --link-remap gave is taken away when the tree runs, or the dump
// failed.
func TestLinkRemap(t *testing.T) {
	dir := t.TempDir()
	name := dir + "/file"
	n, err := unix.Open(name, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	own(t, n, err)
	if err := os.Link(name, dir+"/other"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.env.Options = &options.Dump{Both: options.Both{LinkRemap: true}}
	var undo []func() error
	g.env.Undo = func(_ string, f func() error) { undo = append(undo, f) }
	f := g.add(n)
	g.mustDump()
	if got, _ := filepath.Glob(dir + "/" + linkName + "*"); len(got) != 1 || len(undo) != 1 {
		t.Fatalf("names %v, %d steps to undo", got, len(undo))
	}
	r := newRedo(t, g.im)
	made := r.mustCreate()
	if f2 := g.add(made[plan.ID(f.ID)].Int()); f2.Link != name+deletedSuffix || f2.Stat.Ino != f.Stat.Ino {
		t.Errorf("%s, %+v", f2.Link, f2.Stat)
	}
	if err := r.plan.Node(plan.ID(f.ID)).(plan.Follower).Follow(); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); left != "other" {
		t.Errorf("left: %s", left)
	}
	if err := undo[0](); err == nil {
		t.Error("the name was there")
	}
}

// A file that somebody puts in the place of a deleted one, while that has its name, is
// neither opened nor deleted.
func TestGhostSwapped(t *testing.T) {
	name := t.TempDir() + "/file"
	d, _, err := newNameless(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	n := &regularNode{name: name}
	n.flags = unix.O_RDWR | unix.O_NOFOLLOW
	s := &ghostSet{nodes: []*regularNode{n}, head: &ghost.GhostFileEntry{Mode: proto.Uint32(unix.S_IFREG)}}
	if err := s.places.find(name, unix.PathMax); err != nil {
		t.Fatal(err)
	}
	at, own, err := s.link(d, name)
	if at != name || !own || err != nil {
		t.Fatal(at, own, err)
	}
	for _, swap := range []func() error{
		func() error { return os.WriteFile(name, []byte("another"), 0o600) },
		func() error { return unix.Mkfifo(name, 0o600) },
	} {
		if err := errors.Join(os.Remove(name), swap()); err != nil {
			t.Fatal(err)
		}
		mustFail(t, s.openEarly(d, name, at), "somebody has put another file there")
		_, err = hold(d, at)
		mustFail(t, err, "somebody has put another file there")
		if err := unname(d, at, unix.Unlink); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}

// Where no file can be made without a name it has its own from the beginning, and needs no
// other: file systems like that mostly know no hard links. It stays open as long as it is opened.
func TestGhostNamed(t *testing.T) {
	name := t.TempDir() + "/file"
	d, named, err := newNamed(name, 0)
	if err != nil || named != name {
		t.Fatal(named, err)
	}
	n := &regularNode{name: name}
	s := &ghostSet{nodes: []*regularNode{n}, head: &ghost.GhostFileEntry{Mode: proto.Uint32(unix.S_IFREG)}, holds: map[string]*fd.FD{}, named: named, kept: d}
	defer s.drop()
	if err := errors.Join(s.places.find(name, unix.PathMax), s.holdAll(d)); err != nil {
		t.Fatal(err)
	}
	got, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.holds[name].Int()))
	if got != name+deletedSuffix || err != nil {
		t.Error(got, err)
	}
	if s.keepNamed(); flagsOf(t, s.kept.Int())&unix.O_ACCMODE != unix.O_RDONLY {
		t.Error("it is kept open for writing: nobody could run it")
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, named, err := newNamed(name, 0)
	if err != nil || named != name+".glis-0" {
		t.Fatal(named, err)
	}
	if err := errors.Join(other.Close(), os.Remove(named)); err != nil {
		t.Error(err)
	}
}

// So is what somebody puts in the place of another sort of file.
func TestGhostOtherSwapped(t *testing.T) {
	name := t.TempDir() + "/fifo"
	n := &regularNode{name: name}
	s := &ghostSet{nodes: []*regularNode{n}, head: &ghost.GhostFileEntry{Mode: proto.Uint32(unix.S_IFIFO | 0o600)}, holds: map[string]*fd.FD{}}
	for _, uid := range []int{1, os.Geteuid()} {
		if err := errors.Join(unix.Mkfifo(name, 0o600), os.Chown(name, uid, -1)); err != nil {
			t.Fatal(err)
		}
		err := s.finishOther(name, unix.Unlink)
		_, gone := os.Lstat(name)
		if uid == os.Geteuid() {
			if err != nil || gone == nil {
				t.Errorf("our own: %v, %v", err, gone)
			}
			s.drop()
			continue
		}
		mustFail(t, err, "somebody has put another file there")
		if err := errors.Join(gone, os.Remove(name)); err != nil {
			t.Error(err)
		}
	}
}

// What --link-remap names is named where it was, not where a link leads that has taken
// the place of its directory.
func TestLinkRemapMoved(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/a", 0o700), os.Mkdir(dir+"/other", 0o700)); err != nil {
		t.Fatal(err)
	}
	n, err := unix.Open(dir+"/a/file", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	own(t, n, err)
	if err := errors.Join(os.Link(dir+"/a/file", dir+"/kept"), os.RemoveAll(dir+"/a"), os.Symlink("other", dir+"/a")); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.env.Options = &options.Dump{Both: options.Both{LinkRemap: true}}
	g.add(n)
	mustFail(t, g.dump(), "not supported", "a link has its name", dir+"/a")
	if left := names(t, dir+"/other"); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestHostileGhosts(t *testing.T) {
	reg := func(mode uint32) *ghost.GhostFileEntry {
		return &ghost.GhostFileEntry{Uid: proto.Uint32(0), Gid: proto.Uint32(0), Mode: &mode, Chunks: proto.Bool(true), Size: proto.Uint64(10)}
	}
	at := func(off, n uint64) plan.Entry {
		return plan.Entry{Message: &ghost.GhostChunkEntry{Off: &off, Len: &n}, Payload: make([]byte, n)}
	}
	large := reg(unix.S_IFREG)
	large.Size = proto.Uint64(1 << 63)
	for _, c := range []struct {
		want string
		all  []plan.Entry
	}{
		{"is missing", nil},
		{"and a regular file in files.img", []plan.Entry{{Message: reg(unix.S_IFDIR)}}},
		{"can't be", []plan.Entry{{Message: large}}},
		{"beyond its 10 bytes", []plan.Entry{{Message: reg(unix.S_IFREG)}, at(8, 3)}},
		{"they overlap", []plan.Entry{{Message: reg(unix.S_IFREG)}, at(3, 3), at(5, 1)}},
	} {
		im := regular(&regfile.RegFileEntry{Name: proto.String("/x"), Mode: proto.Uint32(unix.S_IFREG)})
		_ = im.Put(image.RemapFile, &remap.RemapFilePathEntry{OrigId: proto.Uint32(1), RemapId: proto.Uint32(7), RemapType: remap.RemapType_GHOST.Enum()}, nil)
		if c.all != nil {
			im.rows[image.GhostFile.FileName(7)] = c.all
		}
		dir, err := image.OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		im.store(t, dir)
		p, err := planAll(im, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustFail(t, p.Node(1).(plan.Checked).Check(&plan.CheckEnv{Log: slog.New(slog.DiscardHandler), Store: dir}), c.want)
	}
}

// TestGhostHugePages: nothing could be written to a file on a hugetlbfs.
func TestGhostHugePages(t *testing.T) {
	root := hugetlbfs(t)
	n, err := unix.Openat(root, "ghost", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	own(t, n, err)
	if err := unix.Unlinkat(root, "ghost", 0); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.add(n)
	mustFail(t, g.dump(), "hugetlbfs")
}

// hugetlbfs mounts one nowhere.
func hugetlbfs(t *testing.T) int {
	t.Helper()
	fs, err := unix.Fsopen("hugetlbfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		testkit.Lacks(t, "hugetlbfs (CONFIG_HUGETLBFS)", err, unix.ENODEV)
	}
	own(t, fs, nil)
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	n, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	return own(t, n, err)
}

// Flags that only open(2) by a name gives are there afterwards, also if somebody else has
// that name by then.
func TestGhostFlags(t *testing.T) {
	for _, taken := range []bool{false, true} {
		t.Run(fmt.Sprintf("taken %v", taken), func(t *testing.T) { ghostFlags(t, taken) })
	}
}

func ghostFlags(t *testing.T, taken bool) {
	dir := t.TempDir()
	if err := errors.Join(os.Symlink("nowhere", dir+"/link"), os.WriteFile(dir+"/file", []byte("text"), 0o600), os.Mkdir(dir+"/sub", 0o700)); err != nil {
		t.Fatal(err)
	}
	all := []int{
		open(t, dir+"/link", unix.O_PATH|unix.O_NOFOLLOW), open(t, dir+"/link", unix.O_PATH|unix.O_NOFOLLOW),
		open(t, dir+"/file", unix.O_RDWR|unix.O_NOFOLLOW|unix.O_ASYNC), open(t, dir+"/file", unix.O_RDONLY),
		open(t, dir+"/sub", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW), open(t, dir+"/file", unix.O_PATH|unix.O_NOFOLLOW),
		open(t, dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_NOFOLLOW),
	}
	for _, name := range []string{"link", "file", "sub"} {
		if err := os.Remove(dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	g := self(t)
	for _, n := range all {
		g.add(n)
	}
	files := g.tree.Files
	g.mustDump()
	want := ""
	for _, name := range []string{"file", "link", "sub"} {
		if taken {
			want = strings.TrimSpace(want + " " + name)
			if err := os.WriteFile(dir+"/"+name, []byte("another"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := newRedo(t, g.im)
	g.im.store(t, r.env.Store)
	made := r.mustCreate()
	for i, n := range all {
		again := made[plan.ID(files[i].ID)].Int()
		if is, was := flagsOf(t, again), flagsOf(t, n); is != was {
			t.Errorf("%s: flags %#o, were %#o", files[i].Link, is, was)
		}
		if is := g.add(again); !taken && is.Link != files[i].Link && i < len(all)-1 {
			t.Errorf("%s, not %s", is.Link, files[i].Link)
		}
	}
	if left := names(t, dir); left != want {
		t.Errorf("left: %s, want %s", left, want)
	}
}

// Where the file system of a deleted file is full by now, it is said so, and nothing stays.
func TestGhostNoRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		testkit.Lacks(t, "a file system of its own", err, unix.EPERM)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	name := dir + "/gone"
	f := open(t, name, unix.O_RDWR|unix.O_CREAT)
	if _, err := unix.Write(f, make([]byte, 8192)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unlink(name); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.add(f)
	g.mustDump()
	full := open(t, dir+"/full", unix.O_RDWR|unix.O_CREAT)
	if err := unix.Fallocate(full, 0, 0, 56<<10); err != nil {
		t.Fatal(err)
	}
	r := newRedo(t, g.im)
	g.im.store(t, r.env.Store)
	mustFail(t, r.create(), name, "free some space")
	if left := names(t, dir); left != "full" {
		t.Errorf("there is: %s", left)
	}
}
