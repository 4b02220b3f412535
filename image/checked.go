package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/par"
)

// Checked is a checkpoint with a manifest. What is read from it is compared
// with the checksums of the dump: a file that is short as a whole, before any
// of it is given out; a long one, and pages, in chunks while they are read.
// Metadata and Rest make up for what nobody has read. It may be used from
// several goroutines.
//
// A file that is missing, too long or too short can't be opened, and neither
// can one that the dump did not write: it belongs to another checkpoint.
type Checked struct {
	Store
	prefix string // of names in the manifest: this is a directory in a checkpoint
	*checkedFiles
}

// checkedFiles is what a checkpoint and the directories in it share.
type checkedFiles struct {
	top       Store
	files     *ledger
	seen      *seen
	inside    map[string]string // the directory that is in a directory
	inventory []byte
}

// Check looks for the manifest of the checkpoint in s. Without one it returns
// nil, and nothing can be checked: the checkpoint was made by criu, or a Glis
// that wrote none. If there is one, or has been one, and it is not as it was,
// that is an error.
func Check(s Store) (*Checked, error) {
	raw, m, err := readMark(s)
	if err != nil || m == nil {
		return nil, err
	}
	files, err := readManifest(s, m)
	if err != nil {
		return nil, err
	}
	c := &checkedFiles{top: s, files: files, seen: newSeen(len(files.at)), inside: map[string]string{}, inventory: raw}
	for i := range files.at {
		if dir := bytes.LastIndexByte(files.name(i), '/'); dir >= 0 {
			c.within(path.Clean(string(files.name(i)[:dir])))
		}
	}
	return &Checked{Store: s, checkedFiles: c}, nil
}

// within notes which directories a directory is in.
func (c *checkedFiles) within(dir string) {
	for at := dir; at != "."; at = path.Dir(at) {
		up, name := path.Split(at)
		c.inside[strings.TrimSuffix(up, "/")] = name
	}
}

// mayBe tells whether a file may be there that the manifest lacks: what is no
// image, or comes into a checkpoint later.
func mayBe(name string) bool {
	image := strings.HasSuffix(name, ".img") || name == StatsDump.FileName()
	return !image || name == ManifestName || name == Inventory.FileName()
}

// Open opens a file and makes sure that it has the right size, and, if it is
// short, the right content.
func (c *Checked) Open(name string) (ReadFile, error) {
	if c.prefix == "" && name == Inventory.FileName() {
		return &bytesFile{b: c.inventory}, nil
	}
	if b, ok, err := c.short(name, nil, new(int)); ok {
		if err != nil {
			return nil, err
		}
		return &bytesFile{b: b, kept: true}, nil
	}
	i, ok := c.files.find(path.Join(c.prefix, name))
	f, err := c.Store.Open(name)
	switch {
	case !ok && (err != nil || mayBe(name)):
		return f, err
	case !ok:
		_ = f.Close() // the error below is the one that matters
		return nil, notOurs(path.Join(c.prefix, name))
	case errors.Is(err, fs.ErrNotExist):
		return nil, missing(path.Join(c.prefix, name))
	case err != nil:
		return nil, err
	}
	checked, err := c.checked(f, i)
	if err != nil {
		_ = f.Close() // the first error is the one that matters
	}
	return checked, err
}

// short tells whether a file is read as a whole when it is opened. It has one checksum,
// or is empty.
func (f *listing) short() bool { return f.size <= ChunkSize && !isPages(string(f.name)) }

// short is Open for a short file of a directory; false: it is another one. It reads
// into room, if there is enough of it. at is the number of the file that was read before,
// and becomes this one's.
func (c *Checked) short(name string, room []byte, at *int) (b []byte, ok bool, err error) {
	full := name
	if c.prefix != "" {
		full = path.Join(c.prefix, name)
	}
	i, ok := c.files.findNear(full, *at)
	d, plain := c.Store.(*Dir)
	if !ok || !plain {
		return nil, false, nil
	}
	*at = i
	want := c.files.listing(i)
	if !want.short() {
		return nil, false, nil
	}
	b, size, err := d.whole(name, want.size, room)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, true, missing(full)
	case err != nil:
		return nil, true, err
	case size != want.size:
		return nil, true, wrongSize(&want, size)
	}
	return b, true, c.readWhole(i, &want, b)
}

// readWhole takes note of all of a short file.
func (c *Checked) readWhole(i int, want *listing, b []byte) error {
	if len(b) > 0 {
		if sum := checksum(0, b); sum != want.sum(0) {
			return wrongSum(string(want.name), 0, len(b), sum, want.sum(0))
		}
	}
	c.seen.done(i)
	return nil
}

// wrongSize says that a file is longer or shorter than it was.
func wrongSize(want *listing, got int64) error {
	what := "file is cut"
	if got > want.size {
		what = "something was appended"
	}
	return &Error{File: string(want.name), Offset: min(got, want.size), Err: fmt.Errorf("%s, %d bytes instead of %d: %w", what, got, want.size, ErrChecksum)}
}

func notOurs(name string) error {
	return fileError(name, fmt.Errorf("it is not of this checkpoint: %w", ErrChecksum))
}

// missing is an error that is not fs.ErrNotExist: the file is not one that may
// be absent.
func missing(name string) error {
	return fileError(name, fmt.Errorf("it is missing: %w", ErrChecksum))
}

func (c *Checked) checked(f ReadFile, i int) (ReadFile, error) {
	want := c.files.listing(i)
	if got := f.Size(); got != want.size {
		return nil, wrongSize(&want, got)
	}
	if want.short() {
		return c.readChecked(f, i, &want)
	}
	long := want.listed()
	return &checkedFile{f, c.seen, i, c.seen.checking(i, &long)}, nil
}

// isPages tells whether a file holds pages; all others are metadata.
func isPages(name string) bool {
	_, ok := Pages.match(path.Base(name))
	return ok
}

// readChecked reads a short file and closes it.
func (c *Checked) readChecked(f ReadFile, i int, want *listing) (ReadFile, error) {
	b := make([]byte, f.Size())
	n, err := f.ReadAt(b, 0)
	if n < len(b) {
		return nil, &Error{File: string(want.name), Offset: int64(n), Err: readError(err)}
	}
	if err := c.readWhole(i, want, b); err != nil {
		return nil, err
	}
	return &bytesFile{b: b}, f.Close()
}

// bytesFile is a file that was read as a whole.
type bytesFile struct {
	b    []byte
	kept bool // b stays as it is
}

func (f *bytesFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(f.b)) {
		return 0, io.EOF
	}
	n := copy(p, f.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *bytesFile) Size() int64    { return int64(len(f.b)) }
func (f *bytesFile) Close() error   { return nil }
func (f *bytesFile) File() *os.File { return nil }

// checkedFile is a file whose chunks are checked while they are read.
type checkedFile struct {
	ReadFile
	seen  *seen
	i     int // its number
	state *checking
}

func (f *checkedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReadFile.ReadAt(p, off)
	whole, bad := f.state.readAndAsk(p[:n], off)
	if bad != nil {
		return 0, bad
	}
	if whole {
		f.seen.done(f.i)
	}
	return n, err
}

// Metadata checks all files but pages, and of those that they are there and
// how long they are.
func (c *Checked) Metadata(ctx context.Context) error {
	if c == nil {
		return nil
	}
	return c.check(ctx, func(name string) bool { return !isPages(name) })
}

// Rest checks all that has not been seen yet: after it, and all that was read
// before, there is no byte in the checkpoint that was not compared.
func (c *Checked) Rest(ctx context.Context) error {
	if c == nil {
		return nil
	}
	return c.check(ctx, func(string) bool { return true })
}

func (c *Checked) check(ctx context.Context, wanted func(name string) bool) error {
	left := c.seen.unread(len(c.files.at)) // a checkpoint may have very many others
	return par.Do(len(left), func(i int) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		return c.checkFile(ctx, int(left[i]), wanted(string(c.files.name(int(left[i])))))
	})
}

// checkFile looks at a file: at its size only, or at all that has not been
// seen of it.
func (c *Checked) checkFile(ctx context.Context, i int, content bool) error {
	want := c.files.entry(i)
	rest := c.seen.rest(i, &want)
	if want.size > 0 && len(rest) == 0 {
		return nil
	}
	if want.link != "" && c.sameFile(want) {
		return nil // it is looked at under its first name
	}
	f, err := c.openListed(want)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	if !content {
		return nil
	}
	rest = c.seen.rest(i, &want) // a short file was looked at when it was opened
	return eachChunk(len(rest), want.size, func(i int, buf []byte) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b, at := buf[:chunkLen(want.size, rest[i])], rest[i]*ChunkSize
		if n, err := f.ReadAt(b, at); n < len(b) {
			if errors.Is(err, ErrChecksum) {
				return err
			}
			return &Error{File: want.name, Offset: at + int64(n), Err: readError(err)}
		}
		return nil
	})
}

// openListed opens a file by its name in the manifest.
func (c *Checked) openListed(f listed) (ReadFile, error) {
	at := &Checked{Store: c.top, checkedFiles: c.checkedFiles}
	dir, name := path.Split(f.name)
	if dir == "" {
		return at.Open(name)
	}
	below, err := c.below(path.Clean(dir))
	switch {
	case isAnother(err):
		return nil, missing(f.name)
	case err != nil:
		return nil, err
	}
	defer below.Close() //nolint:errcheck // only read from
	at.Store, at.prefix = below, path.Clean(dir)
	return at.Open(name)
}

// isAnother tells whether an error says that something is not there, or not what it
// was, rather than that it can't be looked at.
func isAnother(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EINVAL)
}

// below opens a directory in the checkpoint. No link is followed.
func (c *Checked) below(name string) (*Dir, error) {
	d, ok := DirOf(c.top)
	if !ok {
		return nil, fs.ErrNotExist
	}
	var err error
	for i, p := range strings.Split(name, "/") {
		up := d
		d, err = up.openDir(p)
		if i > 0 {
			_ = up.Close() // a directory that was only read
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// parent opens what pages are inherited from. If that is a directory in the
// checkpoint it is checked like all of it. A checkpoint elsewhere is not; only
// criu makes such ones so far.
func (c *Checked) parent() (Store, *Dir, error) {
	d, ok := DirOf(c.Store)
	if !ok {
		return nil, nil, fmt.Errorf("%s: %w", c.Store, ErrNoParent)
	}
	name := c.inside[c.prefix]
	if name == "" {
		return d.parent()
	}
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d/%s", d.f.Fd(), ParentLink))
	switch {
	case isAnother(err) || err == nil && to != name:
		return nil, nil, fileError(path.Join(c.prefix, ParentLink), fmt.Errorf("it has to be a link to %s: %w", name, ErrChecksum))
	case err != nil:
		return nil, nil, fileError(path.Join(c.prefix, ParentLink), err)
	}
	below, err := d.openDir(name)
	if err != nil {
		return nil, nil, err
	}
	return &Checked{Store: below, prefix: path.Join(c.prefix, name), checkedFiles: c.checkedFiles}, below, nil
}

func (c *Checked) identity() (dirID, error) {
	d, ok := DirOf(c.Store)
	if !ok {
		return dirID{}, fmt.Errorf("%s: %w", c.Store, errors.ErrUnsupported)
	}
	return d.identity()
}

// sameFile tells whether a link is still one.
func (c *Checked) sameFile(f listed) bool {
	d, ok := DirOf(c.top)
	if !ok {
		return false
	}
	a, err := d.inode(f.name)
	b, err2 := d.inode(f.link)
	return err == nil && err2 == nil && a == b
}
