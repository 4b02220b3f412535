package file

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/regfile"
	remap "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
)

func open(t *testing.T, name string, flags int) int {
	t.Helper()
	n, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o640)
	return own(t, n, err)
}

func tempFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRegularRoundTrip(t *testing.T) {
	name := tempFile(t, "0123456789")
	for _, c := range []struct {
		what  string
		name  string
		flags int
		pos   int64
	}{
		{"read", name, unix.O_RDONLY, 3},
		{"write", name, unix.O_WRONLY, 5},
		{"both", name, unix.O_RDWR, 10},
		{"beyond the end", name, unix.O_RDWR, 1 << 40},
		{"append", name, unix.O_WRONLY | unix.O_APPEND, 10},
		{"sync", name, unix.O_RDWR | unix.O_DSYNC, 0},
		{"nofollow", name, unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NOATIME, 0},
		{"created", filepath.Join(t.TempDir(), "new"), unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC, 0},
		{"directory", filepath.Dir(name), unix.O_RDONLY | unix.O_DIRECTORY, 0},
		{"null", "/dev/null", unix.O_RDWR, 0},
		{"zero", "/dev/zero", unix.O_RDONLY | unix.O_NONBLOCK, 0},
		{"urandom", "/dev/urandom", unix.O_RDONLY, 0},
		{"path only", name, unix.O_PATH, 0},
		{"async", name, unix.O_RDWR | unix.O_ASYNC, 0},
		{"directory path", filepath.Dir(name), unix.O_PATH | unix.O_DIRECTORY, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			n := open(t, c.name, c.flags)
			if c.flags&unix.O_PATH == 0 && c.pos != 0 {
				if _, err := unix.Seek(n, c.pos, unix.SEEK_SET); err != nil {
					t.Fatal(err)
				}
			}
			g := self(t)
			g.add(n)
			got := g.roundTrip()[1].Int()
			if want := flagsOf(t, n); flagsOf(t, got) != want {
				t.Errorf("flags are %#o, want %#o", flagsOf(t, got), want)
			}
			var a, b unix.Stat_t
			if err := errors.Join(unix.Fstat(n, &a), unix.Fstat(got, &b)); err != nil {
				t.Fatal(err)
			}
			if a.Ino != b.Ino || a.Dev != b.Dev {
				t.Error("it is another file")
			}
			if c.flags&unix.O_PATH != 0 {
				return
			}
			if pos, err := unix.Seek(got, 0, unix.SEEK_CUR); err != nil || pos != c.pos {
				t.Errorf("it stands at %d, %v; want %d", pos, err, c.pos)
			}
		})
	}
}

func TestRegularSymlink(t *testing.T) {
	name := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", name); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.add(open(t, name, unix.O_PATH|unix.O_NOFOLLOW))
	got := g.roundTrip()[1].Int()
	var st unix.Stat_t
	if err := unix.Fstat(got, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("mode %#o, %v: not a symbolic link", st.Mode, err)
	}
}

func TestRegularEntry(t *testing.T) {
	name := tempFile(t, "0123456789")
	g := self(t)
	g.add(open(t, name, unix.O_RDWR))
	g.add(open(t, name, unix.O_WRONLY|unix.O_APPEND))
	g.mustDump()
	all, _ := g.im.Entries(image.Files)
	e := all[0].Message.(*fdinfo.FileEntry).GetReg()
	if e.GetName() != name || e.GetSize() != 10 || e.GetMode() != unix.S_IFREG|0o640 || e.GetId() != 1 {
		t.Errorf("entry is %v", e)
	}
	e = all[1].Message.(*fdinfo.FileEntry).GetReg()
	if size, _, ok := extra(e, regSize); e.Size != nil || !ok || size != 10 {
		t.Errorf("size of a log file was noted for CRIU, or not at all: %v", e)
	}
}

func TestRegularRefused(t *testing.T) {
	name := tempFile(t, "x")
	for _, c := range []struct {
		what string
		do   func(n int) error
		want string
	}{
		{"deleted, and too large", func(int) error {
			return errors.Join(os.WriteFile(name, make([]byte, 2<<20), 0o600), os.Remove(name))
		}, "--ghost-limit"},
		{"deleted, with an attribute", func(n int) error {
			return errors.Join(unix.Fsetxattr(n, "user.glis", []byte("x"), 0), os.Remove(name))
		}, "the extended attribute user.glis"},
		{"renamed away under its name", func(int) error {
			return errors.Join(os.Link(name, name+".other"), os.Remove(name))
		}, "--link-remap"},
		{"replaced", func(int) error {
			return errors.Join(os.Rename(name, name+".old"), os.WriteFile(name, nil, 0o600), os.Link(name+".old", name+".older"))
		}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			n := open(t, name, unix.O_RDWR)
			if err := c.do(n); err != nil {
				t.Fatal(err)
			}
			g := self(t)
			g.add(n)
			err := g.dump()
			if c.want == "" {
				if err != nil { // a rename moves the path along
					t.Error(err)
				}
				return
			}
			mustFail(t, err, c.want, name, "descriptor")
			if !errors.Is(err, kind.ErrUnsupported) {
				t.Error("it is no ErrUnsupported")
			}
		})
	}
}

func TestRegularHiddenPath(t *testing.T) {
	name := tempFile(t, "x")
	n := open(t, name, unix.O_RDWR)
	g := self(t)
	f := g.add(n)
	other := tempFile(t, "y")
	f.Link = other
	mustFail(t, g.dump(), "another file has this path")
	f.Link = name + "/nowhere"
	mustFail(t, g.dump(), "leads nowhere")
}

func TestRegularRestoreRefuses(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(name string) error
		want string
	}{
		{"missing", os.Remove, "the file is missing"},
		{"shorter", func(name string) error { return os.Truncate(name, 9) }, "9 bytes long now, shorter than the 10"},
		{"longer", func(name string) error { return os.Truncate(name, 11) }, ""},
		{"another inode", func(name string) error {
			return errors.Join(os.Remove(name), os.WriteFile(name, []byte("9876543210"), 0o640))
		}, ""},
		{"mode", func(name string) error { return os.Chmod(name, 0o600) }, "--skip-file-rwx-check"},
		{"directory", func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o640)) }, "a directory now, and was a regular file"},
		{"fifo", func(name string) error { return errors.Join(os.Remove(name), unix.Mkfifo(name, 0o640)) }, "a FIFO now"},
	} {
		t.Run(c.what, func(t *testing.T) {
			name := tempFile(t, "0123456789")
			g := self(t)
			g.add(open(t, name, unix.O_RDONLY))
			g.mustDump()
			if err := c.do(name); err != nil {
				t.Fatal(err)
			}
			err := newRedo(t, g.im).create()
			if c.want != "" {
				mustFail(t, err, c.want, name)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLogIsShorter(t *testing.T) {
	name := tempFile(t, "0123456789")
	g := self(t)
	g.add(open(t, name, unix.O_WRONLY|unix.O_APPEND))
	g.mustDump()
	if err := os.Truncate(name, 9); err != nil {
		t.Fatal(err)
	}
	mustFail(t, newRedo(t, g.im).create(), "9 bytes long now, shorter than the 10", name)
}

func TestSkipRWXCheck(t *testing.T) {
	name := tempFile(t, "0123456789")
	g := self(t)
	g.add(open(t, name, unix.O_RDONLY))
	g.mustDump()
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRedo(t, g.im)
	r.env.Options.SkipFileRWXCheck = true
	r.mustCreate()
}

// regular is an image with one regular file.
func regular(e *regfile.RegFileEntry) *images {
	im := &images{}
	e.Id, e.Fown = proto.Uint32(1), noOwner()
	if e.Flags == nil {
		e.Flags = proto.Uint32(0)
	}
	_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_REG.Enum(), Reg: e}, nil)
	return im
}

func TestRegularHostile(t *testing.T) {
	for _, c := range []struct {
		e    *regfile.RegFileEntry
		want string
	}{
		{&regfile.RegFileEntry{}, "no absolute path"},
		{&regfile.RegFileEntry{Name: proto.String("etc/passwd")}, "no absolute path"},
		{&regfile.RegFileEntry{Name: proto.String("/a\x00b")}, "no absolute path"},
		{&regfile.RegFileEntry{Name: proto.String("/" + strings.Repeat("x", 5000))}, "no absolute path"},
		{&regfile.RegFileEntry{Name: proto.String("/tmp/../etc")}, "goes up again"},
		{&regfile.RegFileEntry{Name: proto.String("/x"), Pos: proto.Uint64(1 << 63)}, "stands at"},
		{&regfile.RegFileEntry{Name: proto.String("/x"), Size: proto.Uint64(1 << 63)}, "no file is that long"},
		{&regfile.RegFileEntry{Name: proto.String("/x"), Mode: proto.Uint32(unix.S_IFSOCK)}, "neither file nor directory"},
		{&regfile.RegFileEntry{Name: proto.String("/x"), Mode: proto.Uint32(unix.S_IFBLK)}, "neither file nor directory"},
		{&regfile.RegFileEntry{Name: proto.String("/x"), Ext: proto.Bool(true)}, "from outside"},
	} {
		_, err := planAll(regular(c.e), nil)
		mustFail(t, err, c.want)
	}
	// The path of one is no device that is open.
	if _, err := planAll(regular(&regfile.RegFileEntry{Name: proto.String("/x"), Mode: proto.Uint32(unix.S_IFBLK), Flags: proto.Uint32(unix.O_PATH)}), nil); err != nil {
		t.Error(err)
	}
	im := regular(&regfile.RegFileEntry{Name: proto.String("/x")})
	_ = im.Put(image.RemapFile, &remap.RemapFilePathEntry{OrigId: proto.Uint32(1), RemapId: proto.Uint32(7)}, nil)
	_, err := planAll(im, nil)
	mustFail(t, err, "no name that --link-remap gives")
	elsewhere := &regfile.RegFileEntry{Id: proto.Uint32(7), Flags: proto.Uint32(0), Pos: proto.Uint64(0), Name: proto.String("/etc/link_remap.1"), Fown: noOwner()}
	_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(7), Type: fdinfo.FdTypes_REG.Enum(), Reg: elsewhere}, nil)
	_, err = planAll(im, nil)
	mustFail(t, err, "in the same directory")
}

func TestRegularFlagsAreNotGivenTwice(t *testing.T) {
	name := tempFile(t, "0123456789")
	const flags = unix.O_RDWR | unix.O_TRUNC | unix.O_CREAT
	im := regular(&regfile.RegFileEntry{Name: proto.String(name), Flags: proto.Uint32(flags)})
	newRedo(t, im).mustCreate()
	if b, _ := os.ReadFile(name); len(b) != 10 {
		t.Errorf("the file was cut: %q is left", b)
	}
	im = regular(&regfile.RegFileEntry{Name: proto.String(name + ".new"), Flags: proto.Uint32(flags | unix.O_TMPFILE)})
	mustFail(t, newRedo(t, im).create(), "is missing")
}

func TestRegularString(t *testing.T) {
	im := regular(&regfile.RegFileEntry{Name: proto.String("/x"), Flags: proto.Uint32(0o2), Pos: proto.Uint64(7)})
	p, err := planAll(im, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Node(1).String(); got != "file 0x1: /x, flags 02, at 7" {
		t.Error(got)
	}
}

// The build-id of the test's own executable, if it has one, or of a C program.
func TestMappedBuildID(t *testing.T) {
	lib := elfOfOurs(t)
	n := open(t, lib, unix.O_RDONLY)
	mem, err := unix.Mmap(n, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	g := self(t)
	maps, err := g.task.Dir.Maps()
	if err != nil {
		t.Fatal(err)
	}
	var vma *proc.VMA
	for i := range maps {
		if maps[i].Name == lib {
			vma = &maps[i]
		}
	}
	f, err := g.Mapped(g.task, vma, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	want, err := elfBuildID(mustOpen(t, lib))
	if err != nil || len(want) != 20 {
		t.Fatalf("build-id is %x, %v", want, err)
	}
	for _, noQuery := range []bool{false, true} {
		k := &Regular{noQuery: noQuery}
		var e regfile.RegFileEntry
		if err := k.buildID(f, &e); err != nil {
			t.Fatal(err)
		}
		if len(e.BuildId) != 5 || e.BuildId[0] != packBuildID(want)[0] {
			t.Errorf("noted %x, want %x", e.BuildId, want)
		}
	}
	g.mustDump()
	otherBuild(t, g, lib)
}

// otherBuild changes a byte of the build-id and restores.
func otherBuild(t *testing.T, g *target, lib string) {
	t.Helper()
	newRedo(t, g.im).mustCreate()
	all, _ := g.im.Entries(image.Files)
	all[0].Message.(*fdinfo.FileEntry).GetReg().BuildId[2]++
	mustFail(t, newRedo(t, g.im).create(), "another build", lib)
	all[0].Message.(*fdinfo.FileEntry).GetReg().Flags = proto.Uint32(unix.O_PATH)
	mustFail(t, newRedo(t, g.im).create(), "another build", lib)
}

func mustOpen(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// elfOfOurs returns some ELF file with a build-id, in a directory of the
// test's.
func elfOfOurs(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/bin/sh", "/bin/true", "/lib64/ld-linux-x86-64.so.2"} {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		copied := filepath.Join(t.TempDir(), "elf")
		if err := os.WriteFile(copied, b, 0o755); err != nil {
			t.Fatal(err)
		}
		if id, err := elfBuildID(mustOpen(t, copied)); err == nil && len(id) == 20 {
			return copied
		}
	}
	t.Skip("no system program with a build-id")
	return ""
}

func TestChildOfAnother(t *testing.T) {
	name := tempFile(t, "input")
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	in, out := os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	cmd := exec.Command("cat")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, mustOpen(t, name), mustOpen(t, "/dev/null")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	t.Cleanup(func() { out.Close(); _ = cmd.Wait() })
	g := newTarget(t, cmd.Process.Pid)
	g.add(1)
	g.add(2)
	made := g.roundTrip()
	if link, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(made[plan.ID(1)].Int())); link != name {
		t.Errorf("descriptor 1 is %s", link)
	}
	g = newTarget(t, cmd.Process.Pid)
	g.add(0)
	mustFail(t, g.dump(), "its end for writing is held outside of the tree", "descriptor 0")
}
