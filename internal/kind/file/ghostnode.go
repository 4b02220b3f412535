package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ghost "glis.dev/glis/image/criu/ghost-file"
	timeimg "glis.dev/glis/image/criu/time"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// ghostSet is a file without a name to be made again. The first of its nodes
// makes it; all open it through a handle on the name that each had.
type ghostSet struct {
	id     uint32 // in ghost-file-ID.img
	nodes  []*regularNode
	head   *ghost.GhostFileEntry
	made   bool
	unborn *fd.FD            // the file that never had a name, for who opened it with O_TMPFILE
	holds  map[string]*fd.FD // O_PATH, by name
	named  string            // what it was made with, if it had to have a name
	kept   *fd.FD            // it then: FUSE opens no file again that nobody has open
	places ghostPlaces
}

// ghostSize is more than any file has, in bytes.
const ghostSize = 1 << 62

// check reads the image of a ghost up to its contents, which may be large.
func (s *ghostSet) check(store image.Store) error {
	rd, head, err := s.open(store)
	if err != nil {
		return err
	}
	defer rd.Close()
	size, at := head.GetSize(), uint64(0)
	for head.GetChunks() {
		var c ghost.GhostChunkEntry
		if err := rd.Next(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if c.GetOff() < at || c.GetLen() > size || c.GetOff() > size-c.GetLen() {
			return fmt.Errorf("%s: %d bytes at %d: they overlap, or are beyond its %d bytes", rd.Name(), c.GetLen(), c.GetOff(), size)
		}
		at = c.GetOff() + c.GetLen()
	}
	return nil
}

// open opens the image of a ghost and reads what is before the contents.
func (s *ghostSet) open(store image.Store) (*image.Reader, *ghost.GhostFileEntry, error) {
	rd, err := image.Open(store, image.GhostFile, s.id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s is missing: the contents of %s, which was deleted", image.GhostFile.FileName(s.id), s.nodes[0].name)
	}
	if err != nil {
		return nil, nil, err
	}
	head := &ghost.GhostFileEntry{}
	err = rd.Next(head)
	if err == nil && head.GetSize() > ghostSize {
		err = fmt.Errorf("%s: a file of %d bytes can't be", rd.Name(), head.GetSize())
	}
	if was := s.nodes[0].mode; err == nil && was != 0 && was&unix.S_IFMT != head.GetMode()&unix.S_IFMT {
		err = fmt.Errorf("%s: it is %s, and %s in files.img", rd.Name(), typeName(head.GetMode()), typeName(was))
	}
	if err != nil {
		return nil, nil, errors.Join(err, rd.Close())
	}
	return rd, head, nil
}

// get returns a file description of the ghost for one of its nodes.
func (s *ghostSet) get(n *regularNode, env *plan.Env) (*fd.FD, error) {
	if !s.made {
		if err := s.create(env); err != nil {
			s.drop()
			return nil, fmt.Errorf("make the file that was deleted again: %w%s", err, noRoom(err))
		}
		s.made = true
	}
	if s.unborn != nil && n.first() {
		d := s.unborn
		s.unborn = nil
		return d, nil
	}
	if d := n.has().early; d != nil {
		n.more.early = nil
		return d, nil
	}
	return reopen(s.holds[n.name], n.again())
}

// unborn tells whether a node is of a file that never had a name.
func (n *regularNode) unborn() bool { return n.flags&unix.O_TMPFILE == unix.O_TMPFILE }

// first tells whether a node can be the open file that made such a file.
func (n *regularNode) first() bool { return n.unborn() && access(n.flags) == unix.O_RDWR }

// unbornFlags are flags of open(2) that the first of them gave.
func (s *ghostSet) unbornFlags() int {
	if i := slices.IndexFunc(s.nodes, (*regularNode).first); i >= 0 {
		return int(s.nodes[i].flags & unix.O_NOFOLLOW)
	}
	return 0
}

func (s *ghostSet) drop() {
	for _, d := range s.holds {
		d.Close()
	}
	for _, n := range s.nodes {
		if d := n.has().early; d != nil {
			d.Close()
			n.more.early = nil
		}
	}
	for _, d := range []*fd.FD{s.unborn, s.kept} {
		if d != nil {
			d.Close()
		}
	}
	s.holds, s.unborn, s.kept = nil, nil, nil
}

// create makes the file, gives it its names, opens it by each, and deletes
// them again, so that it is known by them as it was.
func (s *ghostSet) create(env *plan.Env) error {
	rd, head, err := s.open(env.Store)
	if err != nil {
		return err
	}
	defer rd.Close()
	s.head, s.holds, s.places = head, map[string]*fd.FD{}, ghostPlaces{}
	for _, n := range s.nodes {
		if err := s.places.find(n.name, n.remap.stood); err != nil {
			return errors.Join(err, s.places.leave())
		}
	}
	if head.GetMode()&unix.S_IFMT == unix.S_IFREG {
		err = s.createRegular(rd)
	} else {
		err = s.createOther()
	}
	return errors.Join(err, s.places.leave())
}

// names are the different paths that the nodes had the file by.
func (s *ghostSet) names() []string {
	var out []string
	for _, n := range s.nodes {
		if name := n.name; !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// createRegular makes a regular file, with its contents before its names.
func (s *ghostSet) createRegular(rd *image.Reader) error {
	d, named, err := newNameless(s.places.of(s.nodes[0].name), s.unbornFlags())
	if err != nil {
		return err
	}
	if named == "" {
		defer d.Close()
	} else {
		s.named, s.kept = named, d
		defer func() { _ = unname(s.kept, named, unix.Unlink) }() // mostly it has been by then
	}
	if err := errors.Join(setFlags(s.head, d), s.fill(rd, d), s.dress(d)); err != nil {
		return err
	}
	if err := s.holdAll(d); err != nil {
		return err
	}
	if slices.ContainsFunc(s.nodes, (*regularNode).first) {
		num, err := unix.FcntlInt(uintptr(d.Int()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		s.unborn = fd.New(num)
	}
	s.keepNamed()
	return nil
}

// keepNamed keeps a file that has had a name open for reading alone: who writes to it would be
// in the way of who runs it (execve(2), PR_SET_MM_EXE_FILE).
func (s *ghostSet) keepNamed() {
	if s.kept == nil {
		return
	}
	if reader, err := reopen(s.kept, unix.O_RDONLY); err == nil {
		s.kept.Close()
		s.kept = reader
	}
}

// holdAll gives a file its names for a moment, all before the first is deleted
// again, since one that has had names and has none gets no more.
func (s *ghostSet) holdAll(d *fd.FD) error {
	var errs []error
	var given []string
	for _, name := range s.names() {
		at, own, err := s.link(d, name)
		if at != "" {
			given = append(given, at)
			err = errors.Join(err, s.openEarly(d, name, at))
		}
		if !own {
			at = ""
		}
		h, err2 := hold(d, at)
		if h != nil {
			s.holds[name] = h
		}
		errs = append(errs, err, err2)
	}
	for _, at := range given {
		errs = append(errs, unname(d, at, unix.Unlink))
	}
	return errors.Join(errs...)
}

// noRoom is what to do about a file system that is full.
func noRoom(err error) string {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return "; free some space, or inodes, on the file system that it was on"
	}
	return ""
}

// fill copies the contents from the image.
func (s *ghostSet) fill(rd *image.Reader, d *fd.FD) error {
	if !s.head.GetChunks() {
		return copyPayload(rd, d, 0)
	}
	for {
		var c ghost.GhostChunkEntry
		err := rd.Next(&c)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = copyPayload(rd, d, int64(c.GetOff()))
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Ftruncate(d.Int(), int64(s.head.GetSize())); err != nil {
		return fmt.Errorf("make it %d bytes long: %w", s.head.GetSize(), err)
	}
	return nil
}

func copyPayload(rd *image.Reader, d *fd.FD, at int64) error {
	r, n := rd.Payload()
	if _, err := io.CopyN(io.NewOffsetWriter(pwriter{d}, at), r, n); err != nil {
		return fmt.Errorf("its contents: %w", err)
	}
	return nil
}

// dress gives a new file owner, mode and times.
func (s *ghostSet) dress(d *fd.FD) error {
	if err := unix.Fchown(d.Int(), int(s.head.GetUid()), int(s.head.GetGid())); err != nil {
		return fmt.Errorf("give it to user %d: %w", s.head.GetUid(), err)
	}
	if err := unix.Fchmod(d.Int(), s.head.GetMode()&0o7777); err != nil {
		return fmt.Errorf("set its mode: %w", err)
	}
	if s.head.GetAtim() == nil || s.head.GetMtim() == nil {
		return nil
	}
	times := []unix.Timespec{timespec(s.head.GetAtim()), timespec(s.head.GetMtim())}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", d.Int()), times, 0); err != nil {
		return fmt.Errorf("set its times: %w", err)
	}
	return nil
}

func timespec(t *timeimg.Timeval) unix.Timespec {
	return unix.Timespec{Sec: int64(t.GetTvSec()), Nsec: int64(t.GetTvUsec()%1e6) * 1000}
}

// createOther makes a directory, link or device. It gets its name, or one like
// it if somebody else's file has that by now, and loses it at once.
func (s *ghostSet) createOther() error {
	name := s.places.of(s.nodes[0].name)
	mode := s.head.GetMode()
	add, remove := unix.Mkdir, unix.Rmdir
	if mode&unix.S_IFMT != unix.S_IFDIR {
		add, remove = s.mknod, unix.Unlink
	}
	at := name
	err := add(at, 0o700)
	if errors.Is(err, unix.EEXIST) {
		at, err = tempName(name, func(temp string) error { return add(temp, 0o700) })
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return s.finishOther(at, remove)
}

// finishOther makes what was made a moment ago what it is to be, and removes its name. It
// leaves alone what somebody else has put there since.
func (s *ghostSet) finishOther(at string, remove func(string) error) error {
	h, err := openAt(at, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return errors.Join(err, remove(at))
	}
	if err := s.ours(h, at); err != nil {
		return errors.Join(err, h.Close())
	}
	err = s.dressPath(h)
	for _, n := range s.names() {
		if err == nil {
			err = s.openEarly(h, n, at)
		}
		s.holds[n] = h
	}
	return errors.Join(err, unname(h, at, remove))
}

// ours tells whether what has a name is what was made there a moment ago, and not what
// somebody has put there since. Some file systems know one owner of all (vfat, cifs), who
// is that of the file that comes back, too.
func (s *ghostSet) ours(h *fd.FD, at string) error {
	var st unix.Stat_t
	if err := unix.Fstat(h.Int(), &st); err != nil {
		return err
	}
	single := st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Nlink == 1 // a name of another file makes two
	owned := st.Uid == uint32(unix.Geteuid()) || st.Uid == s.head.GetUid()
	if st.Mode&unix.S_IFMT != s.head.GetMode()&unix.S_IFMT || !owned || !single {
		return fmt.Errorf("%s: somebody has put another file there meanwhile; try again", at)
	}
	return nil
}

// mknod makes what is neither file nor directory.
func (s *ghostSet) mknod(name string, _ uint32) error {
	switch mode := s.head.GetMode(); mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return unix.Symlink(s.head.GetSymlnkTarget(), name)
	case unix.S_IFCHR, unix.S_IFIFO:
		return unix.Mknod(name, mode&unix.S_IFMT|0o600, int(s.head.GetRdev()))
	}
	return fmt.Errorf("%s, which can't be made again", typeName(s.head.GetMode()))
}

// dressPath is dress for what is held with O_PATH.
func (s *ghostSet) dressPath(h *fd.FD) error {
	if s.head.GetMode()&unix.S_IFMT == unix.S_IFLNK {
		return unix.Fchownat(h.Int(), "", int(s.head.GetUid()), int(s.head.GetGid()), unix.AT_EMPTY_PATH)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", h.Int())
	if err := unix.Chown(self, int(s.head.GetUid()), int(s.head.GetGid())); err != nil {
		return fmt.Errorf("give it to user %d: %w", s.head.GetUid(), err)
	}
	if err := unix.Chmod(self, s.head.GetMode()&0o7777); err != nil {
		return fmt.Errorf("set its mode: %w", err)
	}
	return nil
}
