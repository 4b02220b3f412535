package image

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openDir(t *testing.T, path string, opts ...DirOption) *Dir {
	t.Helper()
	d, err := OpenDir(path, opts...)
	check(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestDirFile(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	w, err := d.Create("a.img")
	check(t, err)
	_, err = w.Write([]byte("hello"))
	check(t, err)
	_, err = w.WriteAt([]byte("J"), 0)
	check(t, err)
	check(t, w.Sync())
	flags, err := unix.FcntlInt(w.File().Fd(), unix.F_GETFL, 0)
	check(t, err)
	if flags&unix.O_NONBLOCK != 0 {
		t.Error("file is left in O_NONBLOCK")
	}
	check(t, w.Close())
	check(t, d.Sync())
	st, err := os.Stat(filepath.Join(path, "a.img"))
	check(t, err)
	if st.Mode() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	r, err := d.Open("a.img")
	check(t, err)
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	check(t, errors.Join(err, r.Close()))
	if string(b) != "Jello" {
		t.Errorf("%q", b)
	}
}

func TestDirCreateExisting(t *testing.T) {
	path := t.TempDir()
	check(t, os.WriteFile(path+"/a.img", []byte("old"), 0o600))
	check(t, os.Link(path+"/a.img", path+"/b.img"))
	if _, err := openDir(t, path).Create("a.img"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create: %v", err)
	}
	w, err := openDir(t, path, Overwrite()).Create("a.img")
	check(t, err)
	check(t, w.Close())
	for name, want := range map[string]string{"a.img": "", "b.img": "old"} {
		if b, err := os.ReadFile(path + "/" + name); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
}

func TestDirRefuses(t *testing.T) {
	outer := t.TempDir()
	path := outer + "/images"
	check(t, os.Mkdir(path, 0o700))
	check(t, os.WriteFile(outer+"/secret", []byte("x"), 0o600))
	check(t, os.Symlink("../secret", path+"/out.img"))
	check(t, os.WriteFile(path+"/in.img", nil, 0o600))
	check(t, os.Symlink("in.img", path+"/link.img"))
	check(t, unix.Mkfifo(path+"/fifo.img", 0o600))
	check(t, os.Mkdir(path+"/dir.img", 0o700))
	d := openDir(t, path)
	for _, name := range []string{"", ".", "..", "../secret", "/etc/passwd", "dir.img/x", "a\x00b", strings.Repeat("x", 256), "out.img", "link.img", "fifo.img", "dir.img"} {
		if f, err := d.Open(name); err == nil {
			t.Errorf("Open(%q) = %v", name, f)
		}
		if f, err := d.Create(name); err == nil {
			t.Errorf("Create(%q) = %v", name, f)
		}
	}
	if err := d.Remove("../secret"); err == nil {
		t.Error("Remove outside")
	}
	if _, err := d.Open("none.img"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of no file: %v", err)
	}
	for range 2 {
		names, err := d.List()
		if check(t, err); !slices.Equal(names, []string{"in.img"}) {
			t.Errorf("List: %q", names)
		}
	}
	check(t, d.Remove("in.img"))
}

func TestOpenDirErrors(t *testing.T) {
	path := t.TempDir()
	check(t, os.WriteFile(path+"/file", nil, 0o600))
	if _, err := OpenDir(path + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := OpenDir(path + "/file"); err == nil {
		t.Error("a file opened as a directory")
	}
}

func TestParent(t *testing.T) {
	outer := t.TempDir()
	for _, dir := range []string{"/1", "/2", "/2/sub"} {
		check(t, os.Mkdir(outer+dir, 0o700))
	}
	d := openDir(t, outer+"/2")
	if _, err := d.Parent(); !errors.Is(err, ErrNoParent) {
		t.Fatalf("no link: %v", err)
	}
	for _, target := range []string{"../1", "sub", outer + "/1", "."} {
		check(t, d.SetParent(target))
		p, err := d.Parent()
		check(t, err)
		want, err := os.Stat(filepath.Join(outer, "2", "parent"))
		check(t, err)
		got, err := p.File().Stat()
		check(t, errors.Join(err, p.Close()))
		if !os.SameFile(got, want) {
			t.Errorf("parent %q leads elsewhere", target)
		}
		check(t, d.SetParent("sub")) // a link that exists is left alone
		if link, err := os.Readlink(outer + "/2/parent"); err != nil || link != target {
			t.Errorf("link is %q, %v", link, err)
		}
		check(t, os.Remove(outer+"/2/parent"))
	}
	if err := d.SetParent("../3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SetParent to nowhere: %v", err)
	}
	check(t, os.Symlink("../3", outer+"/2/parent"))
	if _, err := d.Parent(); err == nil || errors.Is(err, ErrNoParent) {
		t.Errorf("link to nowhere: %v", err)
	}
}
