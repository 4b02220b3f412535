package file

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ghost "glis.dev/glis/image/criu/ghost-file"
	remap "glis.dev/glis/image/criu/remap-file-path"
	timeimg "glis.dev/glis/image/criu/time"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/scan"
)

// A ghost is a file without a name: it was deleted while it was open, or never
// had one (O_TMPFILE). Its contents are in the images, once for all that have
// it open, mapped, or as their directory.

type inodeKey struct{ dev, ino uint64 }

// dumpGhost saves a file without a name, and returns the path it had.
func (k *Regular) dumpGhost(env *kind.DumpEnv, f *scan.File) (string, error) {
	key := inodeKey{f.Stat.Dev, f.Stat.Ino}
	id := k.ghosts[key]
	if id == 0 {
		if k.ghosts == nil {
			k.ghosts = map[inodeKey]uint32{}
		}
		id = uint32(len(k.ghosts)) + 1
		k.ghosts[key] = id
		err := putGhost(env, f, id)
		if err == nil {
			err = kind.Complete(env.Images, image.GhostFile, id)
		}
		if err != nil {
			return "", err
		}
	}
	e := &remap.RemapFilePathEntry{OrigId: proto.Uint32(f.ID), RemapId: proto.Uint32(id), RemapType: remap.RemapType_GHOST.Enum()}
	name := strings.TrimSuffix(f.Link, deletedSuffix)
	if n := stood(name); n < len(path.Dir(name)) {
		putVarint(e, ghostStood, uint64(n))
	}
	return name, env.Images.Put(image.RemapFile, e, nil)
}

// putGhost writes the image of a ghost.
func putGhost(env *kind.DumpEnv, f *scan.File, id uint32) error {
	var st unix.Stat_t
	if err := unix.Fstatat(f.Task.Dir.Fd(), f.Path(), &st, 0); err != nil {
		return fmt.Errorf("%v: stat: %w", f, err)
	}
	e := &ghost.GhostFileEntry{
		Uid: proto.Uint32(f.Stat.UID), Gid: proto.Uint32(f.Stat.GID), Mode: proto.Uint32(f.Stat.Mode),
		Dev: proto.Uint32(unix.Major(f.Stat.Dev)<<20 | unix.Minor(f.Stat.Dev)), Ino: proto.Uint64(f.Stat.Ino),
		Atim: timeval(st.Atim), Mtim: timeval(st.Mtim),
	}
	switch f.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return putContents(env, f, e, id, uint64(st.Blocks)*blockSize)
	case unix.S_IFDIR, unix.S_IFIFO:
	case unix.S_IFCHR:
		e.Rdev = proto.Uint32(uint32(f.Stat.Rdev)) // as stat(2) has it, other than Dev
	case unix.S_IFLNK:
		target, err := readLink(f)
		if err != nil {
			return err
		}
		e.SymlnkTarget = proto.String(target)
	default:
		return kind.Unsupported(f, "it is %s that was deleted while it was open; close it, or keep a name for it", typeName(f.Stat.Mode))
	}
	return env.Images.Put(image.GhostFile, e, nil, id)
}

func timeval(t unix.Timespec) *timeimg.Timeval {
	return &timeimg.Timeval{TvSec: proto.Uint64(uint64(t.Sec)), TvUsec: proto.Uint64(uint64(t.Nsec / 1000))}
}

// readLink returns where a symbolic link without a name leads to.
func readLink(f *scan.File) (string, error) {
	d, err := f.Borrow()
	if err != nil {
		return "", err
	}
	defer d.Close()
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(d.Int(), "", b)
	if err != nil {
		return "", fmt.Errorf("%v: read the link: %w", f, err)
	}
	return string(b[:n]), nil
}

// blockSize is the unit of st_blocks, see stat(2).
const blockSize = 512

// chunk is how much of a ghost is kept in memory at once, in bytes.
const chunk = 1 << 20

// putContents writes a regular file without a name: its data, and where. It takes size bytes.
func putContents(env *kind.DumpEnv, f *scan.File, e *ghost.GhostFileEntry, id uint32, size uint64) error {
	if size > uint64(env.Options.GhostLimit) {
		return kind.Unsupported(f, "it was deleted while it was open and takes %d bytes, more than the %d that --ghost-limit allows; raise that, or keep a name for the file", size, env.Options.GhostLimit)
	}
	n, err := f.Task.Dir.Open(f.Path(), unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return err
	}
	d := fd.New(n)
	defer d.Close()
	if huge, err := hugepages.OfFile(d.Int()); err != nil || huge != 0 {
		return errors.Join(err, kind.Unsupported(f, "it was deleted while it was open, from a file system of huge pages (hugetlbfs); keep a name for it, or use memfd_create(2)"))
	}
	if err := errors.Join(plainAttributes(f, d), putFlags(f, d, e)); err != nil {
		return err
	}
	e.Chunks, e.Size = proto.Bool(true), proto.Uint64(uint64(f.Stat.Size))
	if err := env.Images.Put(image.GhostFile, e, nil, id); err != nil {
		return err
	}
	spans, err := pages.DataSpans(d.Int(), uint64(f.Stat.Size))
	if err != nil {
		return fmt.Errorf("%v: %w", f, err)
	}
	for _, s := range spans {
		for at, end := s.Start, min(s.End, uint64(f.Stat.Size)); at < end; at += chunk {
			if err := putChunk(env, d, id, at, min(chunk, end-at)); err != nil {
				return fmt.Errorf("%v: read its contents: %w", f, err)
			}
		}
	}
	return nil
}

func putChunk(env *kind.DumpEnv, d *fd.FD, id uint32, at, n uint64) error {
	b := make([]byte, n)
	if _, err := (preader{d}).ReadAt(b, int64(at)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return env.Images.Put(image.GhostFile, &ghost.GhostChunkEntry{Len: proto.Uint64(n), Off: proto.Uint64(at)}, b, id)
}

// labels are extended attributes that the system gives a new file by itself.
var labels = []string{"security.selinux", "security.apparmor", "security.SMACK64", "security.ima", "security.evm"}

// plainAttributes refuses a ghost, or memfd, with extended attributes or an access
// control list: images have no place for them.
func plainAttributes(f *scan.File, d *fd.FD) error {
	b := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(d.Int(), b)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%v: list its extended attributes: %w", f, err)
	}
next:
	for name := range strings.SplitSeq(strings.TrimRight(string(b[:n]), "\x00"), "\x00") {
		for _, l := range labels {
			if name == l || name == "" {
				continue next
			}
		}
		if strings.HasPrefix(f.Link, memfdPrefix) {
			return kind.Unsupported(f, "it has the extended attribute %s, which images have no place for; let the program remove that", name)
		}
		return kind.Unsupported(f, "it was deleted while it was open and has the extended attribute %s, which images have no place for; close it, or keep a name for it", name)
	}
	return nil
}
