package file

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	ghost "glis.dev/glis/image/criu/ghost-file"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
)

// Flags that chattr(1) gives an inode (ioctl_iflags(2), include/uapi/linux/fs.h). A file of a
// name has them where it is; one without a name, which is made anew, only if it gets them.
const (
	fsCompress    = 0x4
	fsSync        = 0x8
	fsImmutable   = 0x10
	fsAppend      = 0x20
	fsNoDump      = 0x40
	fsNoAtime     = 0x80
	fsNoCompress  = 0x400
	fsJournalData = 0x4000
	fsNoTail      = 0x8000
	fsNoCOW       = 0x800000
	fsDAX         = 0x2000000

	// inodeKept are those that an empty file can be given, and that who writes and opens it
	// afterwards is not in the way of.
	inodeKept = fsCompress | fsSync | fsNoDump | fsNoAtime | fsNoCompress | fsJournalData | fsNoTail | fsNoCOW | fsDAX
	// inodeBarred are those that let nobody fill the file, or open it as it was opened before.
	inodeBarred = fsImmutable | fsAppend | unix.FS_VERITY_FL
)

// inodeFlags returns the flags of a file, none where its file system knows of none.
func inodeFlags(d *fd.FD) (int, error) {
	flags, err := unix.IoctlGetUint32(d.Int(), unix.FS_IOC_GETFLAGS)
	for _, none := range []error{unix.ENOTTY, unix.ENOTSUP, unix.ENOSYS, unix.EINVAL} {
		if errors.Is(err, none) {
			return 0, nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("ask for its flags (FS_IOC_GETFLAGS): %w", err)
	}
	return int(flags), nil
}

// plainFlags refuses a memfd with flags: no image has a place for them.
func plainFlags(f *scan.File, d *fd.FD) error {
	flags, err := inodeFlags(d)
	if err != nil {
		return fmt.Errorf("%v: %w", f, err)
	}
	if flags &= inodeKept | inodeBarred; flags != 0 {
		return kind.Unsupported(f, "it has the flags %#x (chattr(1), ioctl_iflags(2)), which images have no place for; let the program take them off", flags)
	}
	return nil
}

// putFlags notes the flags of a ghost.
func putFlags(f *scan.File, d *fd.FD, e *ghost.GhostFileEntry) error {
	flags, err := inodeFlags(d)
	if err != nil {
		return fmt.Errorf("%v: %w", f, err)
	}
	if barred := flags & inodeBarred; barred != 0 {
		return kind.Unsupported(f, "it was deleted while it was open and has the flags %#x: it is append-only, immutable (chattr(1)) or verified (fsverity), so that it couldn't be filled and opened again; take them off, or keep a name for it", barred)
	}
	if flags &= inodeKept; flags != 0 {
		putVarint(e, ghostChattr, uint64(flags))
	}
	return nil
}

// setFlags gives a file that is empty yet the flags of the ghost that it is to be.
func setFlags(e *ghost.GhostFileEntry, d *fd.FD) error {
	want, _, ok := extra(e, ghostChattr)
	if !ok {
		return nil
	}
	if want == 0 || want&^inodeKept != 0 {
		return fmt.Errorf("flags %#x of a deleted file can't be", want)
	}
	flags, err := inodeFlags(d)
	if err != nil || flags&inodeKept == int(want) {
		return err
	}
	if err := unix.IoctlSetPointerInt(d.Int(), unix.FS_IOC_SETFLAGS, flags&^inodeKept|int(want)); err != nil {
		return fmt.Errorf("give it the flags %#x that it had (FS_IOC_SETFLAGS): %w", want, err)
	}
	return nil
}
