package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// Regular is everything that comes back by opening its path: regular files,
// directories, what is opened with O_PATH, and devices that keep no state for
// whoever has them open. Executables, mapped files and working directories are
// of this kind too.
type Regular struct {
	Locks   *Locks   // of the same restore: some come with their files
	dir     *os.File // the root of dirOf
	dirOf   *scan.Task
	maps    *os.File // /proc/PID/maps of mapsOf
	mapsOf  *scan.Task
	room    *regEntry            // of a dump of many files, for each in turn
	noQuery bool                 // this kernel has no PROCMAP_QUERY
	ghosts  map[inodeKey]uint32  // of a dump: numbers of files without a name
	links   map[inodeKey]uint32  // of a dump: numbers of the names that --link-remap gave
	remaps  map[uint32]*remapped // of a restore: files that come back in another way than by their path
	dirs    directories          // of a restore
	memory  *kmem.Shared         // the kernel's, for directories
	// pressure is that for files of pressure.
	pressure *kmem.Shared
	// log is that for readers of /dev/kmsg.
	log *kmem.Shared
	// tracing is that for readers of trace_pipe.
	tracing *kmem.Shared
	// notifiers is where the kernel has what all who ask for signals of changes have in
	// common; 0: not asked yet.
	notifiers kmem.Addr
}

// Type implements kind.File.
func (*Regular) Type() fdinfo.FdTypes { return fdinfo.FdTypes_REG }

// Match implements kind.File.
func (*Regular) Match(f *scan.File) bool {
	if !strings.HasPrefix(f.Link, "/") {
		return false
	}
	if f.Flags&unix.O_PATH != 0 {
		return true
	}
	switch f.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return true
	case unix.S_IFIFO:
		return len(f.Users) == 0 // the path of one, see Fifo
	case unix.S_IFCHR:
		// A terminal is opened by path on behalf of its own kind, see TTY.
		return harmless(f) || f.FD < 0 && isTTY(f.Stat.Rdev)
	}
	return false
}

// Devices of drivers/char/mem.c, all of major number 1.
const (
	memMajor     = 1
	minorNull    = 3
	minorZero    = 5
	minorFull    = 7
	minorRandom  = 8
	minorURandom = 9
	minorKmsg    = 11
)

// harmless tells whether a device keeps nothing for its openers, or, as /dev/kmsg for who
// reads it, only what comes back.
func harmless(f *scan.File) bool {
	if unix.Major(f.Stat.Rdev) != memMajor {
		return false
	}
	switch unix.Minor(f.Stat.Rdev) {
	case minorNull, minorZero, minorFull, minorRandom, minorURandom, minorKmsg:
		return true
	}
	return false
}

// regEntry is an entry with all that belongs to it, in one piece of memory:
// programs have thousands of them.
type regEntry struct {
	file                    fdinfo.FileEntry
	reg                     regfile.RegFileEntry
	id, flags, mode         uint32
	pos, size               uint64
	name                    string
	fown                    fown.FownEntry
	uid, euid, sig, typ, to uint32
}

// Dump implements kind.File.
func (k *Regular) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	name, err := outside(env, f)
	out := name != ""
	if !out && err == nil {
		name, err = k.name(env, f)
	}
	if err != nil {
		return nil, err
	}
	e := k.entry(env)
	*e = regEntry{id: f.ID, flags: f.Flags, mode: f.Stat.Mode, pos: position(f), name: name}
	e.reg = regfile.RegFileEntry{Id: &e.id, Flags: &e.flags, Pos: &e.pos, Name: &e.name, Mode: &e.mode, Fown: &e.fown}
	e.fown = fown.FownEntry{Uid: &e.uid, Euid: &e.euid, Signum: &e.sig, PidType: &e.typ, Pid: &e.to}
	e.file.Reg = &e.reg
	e.dumpSize(f)
	if out {
		e.reg.Ext = &out
	}
	if f.FD < 0 {
		return &e.file, k.buildID(f, &e.reg)
	}
	if err := errors.Join(k.dumpTrigger(f, &e.reg), k.dumpLog(f, &e.reg), k.noTracing(f)); err != nil {
		return nil, err
	}
	return &e.file, k.dumpOwner(env, f, &e.reg)
}

// manyRegular is from how many files on there is one entry for all of this kind.
const manyRegular = 2000

// entry returns the entry to be filled in.
func (k *Regular) entry(env *kind.DumpEnv) *regEntry {
	if len(env.Tree.Files) < manyRegular {
		return new(regEntry)
	}
	if k.room == nil {
		k.room = new(regEntry)
	}
	return k.room
}

// Reused implements kind.Reuser.
func (k *Regular) Reused(e *fdinfo.FileEntry) bool { return k.room != nil && e == &k.room.file }

// dumpOwner fills in the owner of a descriptor. With O_PATH there is none.
func (k *Regular) dumpOwner(env *kind.DumpEnv, f *scan.File, e *regfile.RegFileEntry) error {
	if f.Flags&unix.O_PATH != 0 || f.Unowned {
		return nil
	}
	d, err := f.Borrow()
	if err != nil {
		return err
	}
	err = fillOwner(env, f, d, e.Fown)
	if err == nil && e.Fown.GetPid() != 0 {
		err = k.dumpNotify(f, d, e)
	}
	return errors.Join(err, d.Close())
}

// position is where the file stands. /dev/kmsg tells none, which CRIU writes as -1.
func position(f *scan.File) uint64 {
	if isLog(f.Stat.Mode, f.Stat.Rdev) {
		return noPosition
	}
	return uint64(f.Pos)
}

const noPosition = ^uint64(0)

// dumpSize notes how long a regular file is. CRIU does not compare the size of
// a log, which somebody else may append to; Glis wants it not to shrink.
func (e *regEntry) dumpSize(f *scan.File) {
	if f.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	e.size = uint64(f.Stat.Size)
	if access(f.Flags) == unix.O_WRONLY && f.Flags&unix.O_APPEND != 0 {
		putVarint(&e.reg, regSize, e.size)
		return
	}
	e.reg.Size = &e.size
}

const deletedSuffix = " (deleted)"

// name returns the path that a restore opens the file by, having seen to it
// that it will be found there.
func (k *Regular) name(env *kind.DumpEnv, f *scan.File) (string, error) {
	if isTTY(f.Stat.Rdev) && f.Stat.Mode&unix.S_IFMT == unix.S_IFCHR {
		return strings.TrimSuffix(f.Link, deletedSuffix), nil // another terminal takes its place, mostly
	}
	if f.Stat.Nlink == 0 {
		return k.dumpGhost(env, f)
	}
	f, err := k.again(f)
	if err != nil {
		return "", err
	}
	if err := lateProc(env, f); err != nil {
		return "", err
	}
	if f.Found {
		return f.Link, sillyName(f)
	}
	st, err := k.statPath(f)
	switch {
	case err == nil && st.Dev == f.Stat.Dev && st.Ino == f.Stat.Ino:
		return f.Link, errors.Join(sillyName(f), k.attached(f))
	case err == nil && env.Options.EvasiveDevices && f.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == f.Stat.Rdev:
		return f.Link, nil
	case err != nil && deadProc(f) != 0:
		return dumpDead(env, f, deadProc(f))
	case strings.HasSuffix(f.Link, deletedSuffix):
		return k.unlinked(env, f)
	case err == nil:
		return "", lost(f, fmt.Sprintf("another file has this path by now (the open one has inode %d, that one %d), or a mount hides it", f.Stat.Ino, st.Ino), "put it back, or unmount what hides it")
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return "", lost(f, "the path leads nowhere (it is below another mount)", "close it, or make the path lead to it again")
	}
	return "", fmt.Errorf("%v: look for it by its path: %w", f, err)
}

// statPath looks for a file by its path, in the task's own root. The kernel
// tells paths as the engine sees them, and they are opened by those: if the
// task has changed its root, see chroot(2), that is no way to look for them.
func (k *Regular) statPath(f *scan.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	flags := 0
	if f.Stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	root, err := k.root(f.Task)
	if err != nil {
		return st, err
	}
	if root == nil {
		return st, unix.Fstatat(unix.AT_FDCWD, f.Link, &st, flags)
	}
	return st, unix.Fstatat(int(root.Fd()), strings.TrimLeft(f.Link, "/"), &st, flags|unix.AT_EMPTY_PATH)
}

// root returns the root directory of a task, or nil if it is one of its own.
// It is opened once for all files of a task: the way through /proc costs as
// much as the rest.
func (k *Regular) root(t *scan.Task) (*os.File, error) {
	if k.dirOf == t {
		return k.dir, nil
	}
	name, err := t.Dir.Link("root")
	if err != nil {
		return nil, err
	}
	if k.dir != nil {
		k.dir.Close()
	}
	k.dir, k.dirOf = nil, t
	if name == "/" {
		n, err := t.Dir.Open("root", unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		k.dir = os.NewFile(uintptr(n), "root")
	}
	return k.dir, nil
}
