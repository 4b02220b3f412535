package file

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// notForOpen are flags of open(2) that must not be given again: they would
// change the file. What was made with O_TMPFILE is an ordinary file if it has
// a path.
const notForOpen = unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_NOCTTY | unix.O_ASYNC | (unix.O_TMPFILE &^ unix.O_DIRECTORY)

// Plan implements kind.File.
func (k *Regular) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetReg()
	if in == nil {
		return entryError(e, "a regular file without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	if err := checkRegular(in); err != nil {
		return entryError(e, "%v", err)
	}
	if in.GetExt() {
		return k.planOutside(p, e, b)
	}
	if g := p.Inherited(strings.TrimPrefix(in.GetName(), "/")); g != nil {
		return p.Add(plan.NewHeir(b.id, g, 0, nil, nil))
	}
	if err := k.readRemaps(p.Source); err != nil {
		return err
	}
	n := k.node(p, b, in)
	n.remap = k.remaps[in.GetId()]
	n.remap.join(n)
	if size, _, ok := extra(in, regSize); ok {
		n.size = size
	}
	if err := n.readMore(in); err != nil {
		return entryError(e, "%v", err)
	}
	if how, _, ok := extra(in, regQueue); ok {
		return planQueue(p, e, n, how)
	}
	if n.remap == nil {
		n.dir = k.dirs.of(in.GetName())
	}
	if number, ok := infoEntry(in.GetName()); ok && n.remap == nil {
		return p.Add(&entryNode{aheadNode{regularNode: n}, number})
	}
	if n.remap == nil || n.remap.dead == 0 {
		return p.Add(n)
	}
	if ofProc(in.GetName()) != n.remap.dead {
		return entryError(e, "%.80q is said to be a file of process %d, which had ended", in.GetName(), n.remap.dead)
	}
	return p.Add(&deadNode{aheadNode{regularNode: n}})
}

// checkRegular refuses what no dump writes.
func checkRegular(e *regfile.RegFileEntry) error {
	name := e.GetName()
	switch {
	case e.GetExt(): // it has no path
	case !strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) || len(name) >= unix.PathMax:
		return fmt.Errorf("%.80q is no absolute path", name)
	case strings.Contains(name, "..") && slices.Contains(strings.Split(name, "/"), ".."):
		return fmt.Errorf("%.80q goes up again, as no path of an open file does", name)
	case e.GetPos() > 1<<63-1 && e.GetPos() != noPosition:
		return fmt.Errorf("%s stands at %d: no file is that long", name, e.GetPos())
	case e.GetSize() > 1<<63-1:
		return fmt.Errorf("%s has %d bytes: no file is that long", name, e.GetSize())
	}
	switch e.GetMode() & unix.S_IFMT {
	case unix.S_IFBLK, unix.S_IFSOCK:
		if e.GetFlags()&unix.O_PATH != 0 {
			return nil
		}
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFCHR, unix.S_IFIFO, 0:
		return nil
	}
	return fmt.Errorf("%s is neither file nor directory (mode %#o), which Glis can't open yet", name, e.GetMode())
}

// regularNode keeps of the entry what it needs: a hundred thousand of them are to find room.
type regularNode struct {
	base
	name  string
	pos   uint64
	size  uint64 // that the file must have at least
	mode  uint32
	remap *remapped  // nil: it comes back by its path
	dir   *directory // that it is in
	plan  *plan.Plan
	locks *Locks
	more  *moreOfRegular // nil: no more is known
}

// moreOfRegular is what few files have.
type moreOfRegular struct {
	build    []uint32 // the build-id, as in the image
	early    *fd.FD   // of a deleted file: what was opened while it had its name
	asks     []asking // who asks for signals of changes
	pressure string   // what was written to a file of that; "": nothing, or it is none
	message  *uint64  // that comes next in the kernel's log; nil: it isn't that
}

// node returns the node of an entry.
func (k *Regular) node(p *plan.Plan, b base, in *regfile.RegFileEntry) *regularNode {
	n := &regularNode{
		base: b, name: in.GetName(), pos: in.GetPos(), size: in.GetSize(), mode: in.GetMode(), plan: p, locks: k.Locks,
	}
	if build := in.GetBuildId(); len(build) > 0 {
		n.also().build = build
	}
	return n
}

// has returns what few files have, to be read.
func (n *regularNode) has() moreOfRegular {
	if n.more == nil {
		return moreOfRegular{}
	}
	return *n.more
}

// also returns what few files have, to be set.
func (n *regularNode) also() *moreOfRegular {
	if n.more == nil {
		n.more = &moreOfRegular{}
	}
	return n.more
}

// readMore reads what few files have.
func (n *regularNode) readMore(in *regfile.RegFileEntry) error {
	asks, err := readNotices(in)
	if err != nil {
		return err
	}
	pressure, err := readPressure(in)
	if err != nil {
		return err
	}
	next, ok, err := readLog(in)
	if err != nil {
		return err
	}
	if ok {
		n.also().message = &next
	}
	if len(asks) > 0 || pressure != "" {
		n.also().asks, n.also().pressure = asks, pressure
	}
	return nil
}

// String implements plan.Node.
func (n *regularNode) String() string {
	return fmt.Sprintf("file %#x: %s, flags %#o, at %d", n.id, n.name, n.flags, int64(n.pos))
}

// Needs implements plan.Node: the file of a socket is made anew when that is bound again, that
// of a pseudo-terminal (opened with O_PATH) with its master.
func (n *regularNode) Needs() []plan.ID {
	if !n.made() {
		return nil
	}
	return n.plan.Bound(n.name)
}

// made tells whether a file may be made by another node.
func (n *regularNode) made() bool {
	mode := n.mode & unix.S_IFMT
	return mode == unix.S_IFSOCK || mode == unix.S_IFCHR && n.flags&unix.O_PATH != 0
}

// Independent implements plan.Independent: a file that is found by its path.
func (n *regularNode) Independent() bool {
	return n.remap == nil && !n.made()
}

// Streamed implements plan.Streamed: a lease that somebody waits for would have who
// opens the file again wait, too.
func (n *regularNode) Streamed() bool { return !n.locks.anyBreaking() }

// Create implements plan.Node.
func (n *regularNode) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	open := n.open
	switch {
	case n.remap == nil:
	case n.remap.ghost != nil:
		open = n.openGhost
	default:
		open = n.openLinked
	}
	d, err := open(env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.name, err)
	}
	return d, nil
}

// Fill implements plan.Filler.
func (n *regularNode) Fill(ctx context.Context, env *plan.Env, own *fd.FD) error {
	if n.locks != nil {
		if err := n.locks.breakLeases(env, n.plan.Users(n.id), n.flags, own); err != nil {
			return err
		}
	}
	return n.base.Fill(ctx, env, own)
}

// open looks before it opens: to open a device or a FIFO that took the file's
// place could have an effect, or wait for ever. Whoever may replace the file in
// between may do it any time, so it isn't looked at once more.
func (n *regularNode) open(env *plan.Env) (*fd.FD, error) {
	at, name := n.dir.place(n.name)
	defer n.dir.done()
	return n.openAt(env, at, name)
}

func (n *regularNode) openBy(env *plan.Env, name string) (*fd.FD, error) {
	return n.openAt(env, unix.AT_FDCWD, name)
}

// openIn opens it in a directory that is not the node's own.
func (n *regularNode) openIn(env *plan.Env, dir int, name string) (*fd.FD, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, n.follow())
	if err == nil {
		err = n.check(env, &st)
	}
	if err != nil {
		return nil, missing(err)
	}
	num, err := unix.Openat(dir, name, n.openFlags(), 0)
	return n.opened(env, true, num, err)
}

func (n *regularNode) openAt(env *plan.Env, at int, name string) (*fd.FD, error) {
	seen, err := n.look(env, at, name)
	if err != nil {
		return nil, err
	}
	num, err := openat(at != unix.AT_FDCWD && n.dir.near, at, name, n.openFlags())
	return n.opened(env, seen, num, err)
}

// look makes sure that it is the file that it was. If it is one that can be opened in
// any case that is left to opened.
func (n *regularNode) look(env *plan.Env, at int, name string) (seen bool, err error) {
	if n.mode&unix.S_IFMT == unix.S_IFREG && n.dir.plain(at, name) {
		return false, nil
	}
	var st unix.Stat_t
	if err := fstatat(at != unix.AT_FDCWD && n.dir.near, at, name, &st, n.follow()); err != nil {
		return true, missing(err)
	}
	return true, n.check(env, &st)
}

// opened takes over what open(2) has returned.
func (n *regularNode) opened(env *plan.Env, seen bool, num int, err error) (*fd.FD, error) {
	if err != nil && !seen {
		err = missing(err)
	}
	if err != nil {
		return nil, fmt.Errorf("open with flags %#o: %w", n.flags, err)
	}
	d := fd.New(num)
	if !seen {
		var st unix.Stat_t
		if err := linux.QuickFstat(num, &st); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		if err := n.check(env, &st); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return n.settle(d)
}

// fstatat and openat call the kernel in the quick way where it doesn't wait. (Functions
// as values would have what they fill in be on the heap.)
func fstatat(near bool, at int, name string, st *unix.Stat_t, flags int) error {
	if near {
		return linux.QuickFstatat(at, name, st, flags)
	}
	return unix.Fstatat(at, name, st, flags)
}

func openat(near bool, at int, name string, flags int) (int, error) {
	if near {
		return linux.QuickOpenat(at, name, flags)
	}
	return unix.Openat(at, name, flags, 0)
}

// settle moves a file that was opened to where it was, or closes it.
func (n *regularNode) settle(d *fd.FD) (*fd.FD, error) {
	err := errors.Join(n.press(d), n.readOn(d))
	if err == nil {
		err = n.position(d)
	}
	if err == nil {
		err = n.sameBuild(d)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func missing(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("the file is missing; put it back as it was at the dump: %w", err)
	}
	return err
}

func (n *regularNode) follow() int {
	if n.flags&unix.O_PATH != 0 && n.flags&unix.O_NOFOLLOW != 0 {
		return unix.AT_SYMLINK_NOFOLLOW
	}
	return 0
}

func (n *regularNode) openFlags() int {
	flags := n.again()
	if flags&unix.O_PATH != 0 {
		flags &= unix.O_PATH | unix.O_NOFOLLOW | unix.O_DIRECTORY
	}
	return int(flags) | unix.O_NOCTTY | unix.O_CLOEXEC
}

// again returns the flags that open(2) is given again. Only it can give O_ASYNC to what
// tells nobody of its I/O, where that means nothing.
func (n *regularNode) again() uint32 {
	flags := n.flags &^ notForOpen
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		flags |= n.flags & unix.O_ASYNC
	}
	return flags
}

// permissions are the bits that CRIU lets be ignored.
const permissions = 0o777

// check compares the file with what it was. It may have grown.
func (n *regularNode) check(env *plan.Env, st *unix.Stat_t) error {
	now, was := st.Mode, n.mode
	if was == 0 {
		was = now // older images don't tell
	}
	if was&unix.S_IFMT != now&unix.S_IFMT {
		return fmt.Errorf("it is %s now, and was %s at the dump", typeName(now), typeName(was))
	}
	if skip := env.Options != nil && env.Options.SkipFileRWXCheck; skip {
		now, was = now&^permissions, was&^permissions
	}
	if now != was {
		return fmt.Errorf("its mode is %#o now, and was %#o at the dump; set it back, or restore with --skip-file-rwx-check", now&^unix.S_IFMT, was&^unix.S_IFMT)
	}
	if uint64(st.Size) < n.size {
		return fmt.Errorf("it is %d bytes long now, shorter than the %d at the dump; put it back as it was", st.Size, n.size)
	}
	return nil
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFCHR:
		return "a character device"
	case unix.S_IFBLK:
		return "a block device"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return fmt.Sprintf("of type %#o", mode&unix.S_IFMT)
}

// position moves a new file to where it was.
func (n *regularNode) position(d *fd.FD) error {
	pos := n.pos
	if pos == 0 || pos == noPosition || n.flags&unix.O_PATH != 0 {
		return nil
	}
	var err error
	if n.dir != nil && n.dir.near {
		err = linux.QuickSeek(d.Int(), int64(pos))
	} else {
		_, err = unix.Seek(d.Int(), int64(pos), unix.SEEK_SET)
	}
	if err != nil {
		return fmt.Errorf("go to position %d: %w", pos, err)
	}
	return nil
}

// sameBuild compares the build-id, where the dump noted one.
func (n *regularNode) sameBuild(d *fd.FD) error {
	want := n.has().build
	if len(want) == 0 {
		return nil
	}
	if access(n.flags) == unix.O_WRONLY || n.flags&unix.O_PATH != 0 {
		r, err := reopen(d, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer r.Close()
		d = r
	}
	id, err := elfBuildID(preader{d})
	if err != nil {
		return fmt.Errorf("read its build-id: %w", err)
	}
	if got := packBuildID(id); !slices.Equal(got, want) {
		return fmt.Errorf("it is another build (build-id %08x) than at the dump (%08x); install the same version again", got, want)
	}
	return nil
}
