package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	theirs "github.com/checkpoint-restore/go-criu/v8/crit/images/inventory"
	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/proto"
)

func someInventory() *inventory.InventoryEntry {
	return &inventory.InventoryEntry{ImgVersion: proto.Uint32(Version11), FdinfoPerId: proto.Bool(true), DumpCriuRunId: proto.String("run")}
}

// Pages of a task: some, and more than a chunk.
const few, many = 3, 300

// madeCheckpoint makes a small checkpoint with all that one can have: metadata
// of some sorts, pages of two tasks, and links to them in a directory.
func madeCheckpoint(t *testing.T, pagesOf int, later bool) string {
	t.Helper()
	path := t.TempDir()
	d := openDir(t, path)
	r := NewRecorder(d, later)
	check(t, WriteOne(r, Core, fill(&core.CoreEntry{}), 1))
	check(t, WriteAll(r, PsTree, []*pstree.PstreeEntry{fill(&pstree.PstreeEntry{}), fill(&pstree.PstreeEntry{})}))
	check(t, WriteOne(r, Seccomp, Seccomp.New()))
	for id := range uint32(2) {
		w, err := NewPagemapWriter(r, Pagemap, uint64(id)+1, id+1)
		check(t, err)
		check(t, w.Add(1<<20, uint64(pagesOf), PagePresent))
		check(t, w.Close())
		f, err := r.Create(Pages.FileName(id + 1))
		check(t, err)
		b := randomBytes(pagesOf * PageSize)
		for _, x := range [][2]int{{PageSize, len(b)}, {0, PageSize}} { // not in order
			_, err = f.WriteAt(b[x[0]:x[1]], int64(x[0]))
			check(t, err)
		}
		check(t, f.Close())
	}
	check(t, os.MkdirAll(path+"/shared/shared", 0o700))
	check(t, os.Symlink("shared", path+"/parent"))
	check(t, os.Symlink("shared", path+"/shared/parent"))
	check(t, os.Link(path+"/pages-1.img", path+"/shared/pages-1.img"))
	check(t, os.Link(path+"/pagemap-1.img", path+"/shared/pagemap-2.img"))
	check(t, os.Link(path+"/pages-1.img", path+"/shared/shared/pages-1.img"))
	check(t, r.Seal(context.Background(), someInventory()))
	check(t, r.SyncAll(context.Background()))
	check(t, os.WriteFile(path+"/dump.log", []byte("no image"), 0o600))
	return path
}

// verify returns what is wrong with a checkpoint, in words; "" if it is intact.
// That a restore, which reads in its own way, sees the same is asserted.
func verify(t *testing.T, path string) string {
	t.Helper()
	d := openDir(t, path)
	defer d.Close() // there are thousands in a test
	v, err := Verify(context.Background(), d)
	if err == nil {
		err = errors.Join(v.Bad...)
	}
	c, seen := Check(d)
	if seen == nil && c == nil {
		seen = errors.New("no manifest")
	}
	if seen == nil {
		seen = errors.Join(c.Metadata(context.Background()), c.Rest(context.Background()))
	}
	if (err == nil) != (seen == nil) {
		t.Errorf("verify: %v\nrestore: %v", err, seen)
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestIntact(t *testing.T) {
	for _, later := range []bool{false, true} {
		path := madeCheckpoint(t, many, later)
		if bad := verify(t, path); bad != "" {
			t.Error(bad)
		}
		c, err := Check(openDir(t, path))
		check(t, err)
		i, ok := c.files.find("shared/shared/pages-1.img")
		if len(c.files.at) != 10 || !ok || c.files.entry(i).link != "pages-1.img" || c.files.entry(i).size != int64(many*PageSize) {
			t.Errorf("%d files, %d of them, %v", len(c.files.at), i, ok)
		}
		check(t, os.WriteFile(path+"/stats-restore", []byte("later"), 0o600))
		if bad := verify(t, path); bad != "" {
			t.Errorf("after a restore: %s", bad)
		}
	}
}

// criu's tools decode an inventory with a mark.
func TestMarkedInventoryDecodes(t *testing.T) {
	path := madeCheckpoint(t, few, false)
	f, err := os.Open(path + "/inventory.img")
	check(t, err)
	defer f.Close()
	img, err := crit.New(f, nil, "", false, false).Decode(&theirs.InventoryEntry{})
	check(t, err)
	if len(img.Entries) != 1 || img.Entries[0].Message.(*theirs.InventoryEntry).GetDumpCriuRunId() != "run" {
		t.Errorf("%+v", img)
	}
	inv, err := ReadInventory(openDir(t, path))
	check(t, err)
	if inv.GetDumpCriuRunId() != "run" {
		t.Errorf("%v", inv)
	}
}

// flip changes a bit of a file in place, also of its other names.
func flip(t *testing.T, path string, at int64, bit byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	check(t, err)
	b[0] ^= bit
	_, err = f.WriteAt(b[:], at)
	check(t, err)
}

// eachFlip calls f with one bit of every byte of a file changed, or with
// GLIS_EVERY_BIT=1 with every bit; step is the distance between bytes.
func eachFlip(t *testing.T, file string, step int64, f func(at int64, bit byte)) {
	t.Helper()
	st, err := os.Stat(file)
	check(t, err)
	every := os.Getenv("GLIS_EVERY_BIT") != ""
	for at := int64(0); at < st.Size(); at += step {
		for n := range 8 {
			if bit := byte(1) << n; every || n == int(at%8) {
				flip(t, file, at, bit)
				f(at, bit)
				flip(t, file, at, bit)
			}
		}
	}
}

// Every byte of all metadata, and some of the pages; with GLIS_EVERY_PAGE=1
// every byte of a checkpoint's that has few of them.
func TestEveryByte(t *testing.T) {
	for _, pages := range []int{few, many} {
		path := madeCheckpoint(t, pages, false)
		names, err := openDir(t, path).List()
		check(t, err)
		for _, name := range names {
			step := int64(1)
			if isPages(name) && (pages == many || os.Getenv("GLIS_EVERY_PAGE") == "") {
				step = int64(pages*PageSize/9 - 1)
			}
			if name == "dump.log" || pages == many && !isPages(name) {
				continue
			}
			eachFlip(t, filepath.Join(path, name), step, func(at int64, bit byte) {
				if bad := verify(t, path); !strings.Contains(bad, name) || isPages(name) && !strings.Contains(bad, "offset") {
					t.Fatalf("%s: byte %d, bit %#x: %q", name, at, bit, bad)
				}
			})
		}
		if bad := verify(t, path); bad != "" {
			t.Error(bad)
		}
	}
}

// A mark that is gone by one bit, and the manifest with it.
func TestMarkFlippedAway(t *testing.T) {
	path := madeCheckpoint(t, few, false)
	check(t, os.Remove(path+"/"+ManifestName))
	eachFlip(t, path+"/inventory.img", 1, func(at int64, bit byte) {
		s := openDir(t, path)
		c, err := Check(s)
		if err == nil {
			_, err = ReadInventory(s)
		}
		if c != nil || err == nil {
			t.Fatalf("byte %d, bit %#x: %v, %v", at, bit, c, err)
		}
	})
	if _, err := Check(openDir(t, path)); err == nil || !strings.Contains(err.Error(), ManifestName) {
		t.Error(err)
	}
}

func TestDamagedFiles(t *testing.T) {
	in := func(f func(path, name string) error, name string) func(string) error {
		return func(path string) error { return f(path, name) }
	}
	remove := func(path, name string) error { return os.Remove(filepath.Join(path, name)) }
	cut := func(path, name string) error {
		st, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			return err
		}
		return os.Truncate(filepath.Join(path, name), st.Size()-1)
	}
	grow := func(path, name string) error {
		st, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			return err
		}
		return os.Truncate(filepath.Join(path, name), st.Size()+1)
	}
	relink := func(to string) func(string, string) error {
		return func(path, name string) error {
			return errors.Join(remove(path, name), os.Symlink(to, filepath.Join(path, name)))
		}
	}
	tests := map[string]struct {
		harm func(path string) error
		name string
	}{
		"swapped": {func(path string) error {
			a, b := path+"/pagemap-1.img", path+"/pagemap-2.img"
			return errors.Join(os.Rename(a, path+"/x"), os.Rename(b, a), os.Rename(path+"/x", b))
		}, "pagemap-1.img"},
		"a stranger": {func(path string) error { return os.WriteFile(path+"/memfd.img", nil, 0o600) }, "memfd.img"},
		"copied and flipped": {func(path string) error {
			b, err := os.ReadFile(path + "/pages-1.img")
			if err != nil {
				return err
			}
			b[len(b)-1] ^= 1
			return errors.Join(remove(path, "shared/pages-1.img"), os.WriteFile(path+"/shared/pages-1.img", b, 0o600))
		}, "shared/pages-1.img"},
		"no directory":  {func(path string) error { return os.RemoveAll(path + "/shared") }, "shared/"},
		"symbolic link": {in(relink("pagemap-2.img"), "pagemap-1.img"), "pagemap-1.img"},
	}
	for _, name := range []string{"core-1.img", "pages-2.img", "seccomp.img", "inventory.img", ManifestName, "shared/pagemap-2.img"} {
		tests["no "+name] = struct {
			harm func(path string) error
			name string
		}{in(remove, name), name}
		tests["cut "+name] = struct {
			harm func(path string) error
			name string
		}{in(cut, name), strings.Replace(name, "shared/pagemap-2", "pagemap-1", 1)}
		tests["longer "+name] = struct {
			harm func(path string) error
			name string
		}{in(grow, name), strings.Replace(name, "shared/pagemap-2", "pagemap-1", 1)}
	}
	for what, x := range tests {
		path := madeCheckpoint(t, few, false)
		check(t, x.harm(path))
		d := openDir(t, path)
		v, err := Verify(context.Background(), d)
		if err == nil {
			err = errors.Join(v.Bad...)
		}
		if err == nil || !strings.Contains(err.Error(), x.name) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What is missing is no image that may be absent, and what is too much is not
// read.
func TestOpenChecked(t *testing.T) {
	path := madeCheckpoint(t, few, false)
	c, err := Check(openDir(t, path))
	check(t, err)
	if _, err := ReadOptional[*core.CoreEntry](c, Core, 2); err != nil {
		t.Errorf("a file that there never was: %v", err)
	}
	check(t, os.WriteFile(path+"/core-2.img", []byte("x"), 0o600))
	if _, err := c.Open("core-2.img"); !errors.Is(err, ErrChecksum) {
		t.Errorf("a stranger: %v", err)
	}
	check(t, os.Remove(path+"/core-1.img"))
	if _, err := ReadOptional[*core.CoreEntry](c, Core, 1); !errors.Is(err, ErrChecksum) {
		t.Errorf("a file that is missing: %v", err)
	}
}

// Pages are compared as they are read, whatever the pieces, also by the way of
// a parent.
func TestPagesChecked(t *testing.T) {
	path := madeCheckpoint(t, many, false)
	flip(t, path+"/pages-1.img", ChunkSize+100, 4)
	c, err := Check(openDir(t, path))
	check(t, err)
	check(t, c.Metadata(context.Background()))
	parent, owned, err := c.parent()
	check(t, err)
	defer owned.Close()
	if id, err := parent.(parented).identity(); err != nil || id == (dirID{}) {
		t.Error(id, err)
	}
	for _, s := range []Store{c, parent} {
		f, err := s.Open("pages-1.img")
		check(t, err)
		b := make([]byte, f.Size())
		if _, err := f.ReadAt(b[:ChunkSize], 0); err != nil {
			t.Errorf("the intact chunk: %v", err)
		}
		if _, err := f.ReadAt(b[:5000], ChunkSize); err != nil {
			t.Errorf("a part of the other one can't be known to be wrong: %v", err)
		}
		_, err = f.ReadAt(b[:f.Size()-ChunkSize-5000], ChunkSize+5000)
		var bad *Error
		if !errors.As(err, &bad) || bad.Offset != ChunkSize || !strings.HasSuffix(bad.File, "pages-1.img") {
			t.Errorf("the other one: %v", err)
		}
		check(t, f.Close())
	}
	if err := c.Rest(context.Background()); !errors.Is(err, ErrChecksum) {
		t.Error(err)
	}
}

func TestParentLinkChecked(t *testing.T) {
	path := madeCheckpoint(t, few, false)
	check(t, errors.Join(os.Remove(path+"/parent"), os.Symlink(".", path+"/parent")))
	c, err := Check(openDir(t, path))
	check(t, err)
	if _, _, err := c.parent(); !errors.Is(err, ErrChecksum) {
		t.Error(err)
	}
}

// What can't be looked at is not said to be missing, or another.
func TestUnread(t *testing.T) {
	c, err := Check(openDir(t, madeCheckpoint(t, few, false)))
	check(t, err)
	var limit unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}))
	_, err = c.openListed(listed{name: "shared/pages-1.img"})
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if !errors.Is(err, unix.EMFILE) || errors.Is(err, ErrChecksum) {
		t.Errorf("without a descriptor left: got %v", err)
	}
	for _, err := range []error{unix.EIO, unix.ENOMEM, unix.EMFILE, nil} {
		if isAnother(err) {
			t.Errorf("%v is taken for another file", err)
		}
	}
}

// Images of criu have no mark, and that is no error.
func TestNoMark(t *testing.T) {
	path := t.TempDir()
	check(t, os.CopyFS(path, os.DirFS("testdata/sleep")))
	d := openDir(t, path)
	if c, err := Check(d); c != nil || err != nil {
		t.Error(c, err)
	}
	if _, err := Verify(context.Background(), d); !errors.Is(err, ErrNoManifest) {
		t.Error(err)
	}
	check(t, (*Checked)(nil).Metadata(context.Background()))
	check(t, (*Checked)(nil).Rest(context.Background()))
	if _, err := Verify(context.Background(), openDir(t, t.TempDir())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty directory: %v", err)
	}
}

func TestCancelledCheck(t *testing.T) {
	c, err := Check(openDir(t, madeCheckpoint(t, few, false)))
	check(t, err)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("stopped")
	cancel(why)
	if err := c.Rest(ctx); !errors.Is(err, why) {
		t.Error(err)
	}
}

// manifestOf encodes a manifest.
func manifestOf(files ...listed) (out []byte) {
	var l ledger
	for _, f := range files {
		l.add(f)
	}
	l.sort()
	_ = writeManifest(&l, func(b []byte) error { // it does not fail
		out = append(out, b...)
		return nil
	})
	return out
}

// A manifest that is not in order of names is read like one that is.
func TestManifestInAnyOrder(t *testing.T) {
	l := ledger{b: manifest.header(nil)}
	for _, name := range []string{"b", "d", "a", "c"} {
		l.add(listed{name: name})
	}
	l.add(listed{name: "e/b", link: "b"})
	got, err := parseManifest(l.b)
	check(t, err)
	for i, want := range []string{"a", "b", "c", "d", "e/b"} {
		if f := got.entry(i); f.name != want {
			t.Errorf("%d: %q, want %q", i, f.name, want)
		}
	}
}

func TestHostileManifests(t *testing.T) {
	entry := func(b []byte) []byte {
		return append(binary.LittleEndian.AppendUint32(manifest.header(nil), uint32(len(b))), b...)
	}
	for name, b := range map[string][]byte{
		"empty":          nil,
		"magic":          words(CommonMagic, magicCore),
		"another's":      Own("glis-sockets", nil).header(nil),
		"cut at once":    manifest.header(nil)[:9],
		"cut":            append(manifest.header(nil), 5, 0, 0, 0, 1),
		"half a size":    append(manifest.header(nil), 5, 0),
		"no name":        entry(nil),
		"upwards":        entry(appendListed(nil, listed{name: "../x"})),
		"absolute":       entry(appendListed(nil, listed{name: "/x"})),
		"deep":           entry(appendListed(nil, listed{name: strings.Repeat("a/", 200) + "b"})),
		"few checksums":  entry(appendListed(nil, listed{name: "x", size: ChunkSize + 1, sums: []uint32{1}})),
		"many checksums": entry(appendListed(nil, listed{name: "x", sums: []uint32{1}})),
		"huge":           entry(appendListed(nil, listed{name: "x", size: -1})),
		"link to itself": entry(appendListed(nil, listed{name: "x", link: "x"})),
		"link to none":   entry(appendListed(nil, listed{name: "x", link: "y"})),
		"not protobuf":   entry([]byte{0xff}),
		"odd checksums":  entry([]byte{1<<3 | 2, 1, 'x', 3<<3 | 2, 1, 0}),
		"name behind":    entry(append(binary.AppendUvarint(nil, uint64(entrySize)<<3), append([]byte{0}, appendListed(nil, listed{name: "x"})...)...)),
		"two names":      entry(append(appendListed(nil, listed{name: "x"}), appendListed(nil, listed{name: "y"})...)),
		"link to a link": append(entry(appendListed(nil, listed{name: "x", link: "y"})), append(entry(appendListed(nil, listed{name: "y", link: "z"})), entry(appendListed(nil, listed{name: "z"}))[len(manifest.header(nil)):]...)[len(manifest.header(nil)):]...),
		"twice":          append(entry(appendListed(nil, listed{name: "x"})), entry(appendListed(nil, listed{name: "x"}))[len(manifest.header(nil)):]...),
	} {
		if files, err := parseManifest(b); err == nil || !strings.Contains(err.Error(), ManifestName) {
			t.Errorf("%s: %v, %v", name, files, err)
		}
	}
}

// FuzzManifest reads whatever a manifest may hold, and checks whatever inventory
// stands beside it: an error, or what can be relied on.
func FuzzManifest(f *testing.F) {
	manifest := manifestOf(listed{name: "a"})
	inv, err := encodeInventory(someInventory(), mark{uint64(len(manifest)), checksum(0, manifest)})
	check(f, err)
	f.Add(manifest, inv)
	f.Add(manifestOf(listed{name: "a", size: 5, sums: []uint32{1}}, listed{name: "b/c", link: "a"}), inv)
	f.Fuzz(func(t *testing.T, b, inv []byte) {
		c, err := Check(memory{"inventory.img": &memFile{inv}, ManifestName: &memFile{b}})
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if c != nil && !bytes.Equal(c.inventory, inv) {
			t.Fatal("not this inventory")
		}
		files, err := parseManifest(b)
		if err != nil {
			return
		}
		var all []listed
		for i := range files.at {
			all = append(all, files.entry(i))
		}
		again, err := parseManifest(manifestOf(all...))
		check(t, err)
		if len(again.at) != len(files.at) {
			t.Fatalf("%v, was %v", again, files)
		}
		for i, x := range all {
			if y := again.entry(i); x.name != y.name || x.size != y.size || x.link != y.link || !slices.Equal(x.sums, y.sums) {
				t.Fatalf("%v, was %v", y, x)
			}
		}
	})
}
