package feature

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// Features of userfaultfd, include/uapi/linux/userfaultfd.h.
const (
	uffdPagefaultWP   = 1 << 0
	uffdEventFork     = 1 << 1
	uffdEventRemap    = 1 << 2
	uffdEventRemove   = 1 << 3
	uffdEventUnmap    = 1 << 6
	uffdWPUnpopulated = 1 << 13 // Linux 6.4
	uffdWPAsync       = 1 << 15 // Linux 6.7
)

// uffdWith opens a userfaultfd, asks for features, and drops it again.
func uffdWith(features uint64) error {
	n, _, e := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if e != 0 {
		return conclude(e, "userfaultfd")
	}
	defer unix.Close(int(n))
	return conclude(uffdAPI(int(n), features), "ioctl(UFFDIO_API)")
}

func uffd(context.Context) error { return uffdWith(0) }

func uffdNoncoop(context.Context) error {
	return uffdWith(uffdEventFork | uffdEventRemap | uffdEventRemove | uffdEventUnmap)
}

// memDirtyTrack needs no soft-dirty bits: pages that are written are found by
// write protection that the kernel lifts by itself.
func memDirtyTrack(ctx context.Context) error {
	if err := pagemapScan(ctx); err != nil {
		return err
	}
	return uffdWith(uffdPagefaultWP | uffdWPUnpopulated | uffdWPAsync)
}

func pagemapScan(context.Context) error      { return scan(linux.PAGE_IS_PRESENT) }
func pagemapScanGuard(context.Context) error { return scan(linux.PAGE_IS_GUARD) }

// scan asks the engine's pagemap for one page in a category.
func scan(category uint64) error {
	return self(func(d *proc.Dir) error {
		n, err := d.Open("pagemap", unix.O_RDONLY)
		if err != nil {
			return conclude(err, "pagemap")
		}
		defer unix.Close(n)
		page := uint64(os.Getpagesize())
		arg := linux.PmScanArg{Start: page, End: 2 * page, CategoryAnyofMask: category, ReturnMask: category}
		err = linux.PagemapScan(n, arg, make([]linux.PageRegion, 1), func([]linux.PageRegion) error { return nil })
		return conclude(err, "ioctl(PAGEMAP_SCAN)")
	})
}

// overlayMaps tests that maps tells the device and inode that fstat(2) tells
// of a file on overlayfs. The overlay is never attached to a directory, and
// goes with its descriptor.
func overlayMaps(context.Context) error {
	dir, err := os.MkdirTemp("", "glis-probe-")
	if err != nil {
		return conclude(err, "a directory for files")
	}
	defer os.RemoveAll(dir)
	upper, lower := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, d := range []string{upper, lower} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return conclude(err, "a directory for files")
		}
	}
	if err := os.WriteFile(filepath.Join(upper, "f"), make([]byte, os.Getpagesize()), 0o600); err != nil {
		return conclude(err, "a file")
	}
	mount, err := overlay(upper, lower)
	if err != nil {
		return conclude(err, "an overlay mount")
	}
	defer unix.Close(mount)
	n, err := unix.Openat(mount, "f", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return conclude(err, "a file on overlayfs")
	}
	defer unix.Close(n)
	return mapsAgree(n)
}

// overlay makes a read-only overlay of two directories, detached.
func overlay(upper, lower string) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "lowerdir", upper+":"+lower); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
}

// mapsAgree maps a file and compares what maps and fstat(2) say of it.
func mapsAgree(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return conclude(err, "fstat")
	}
	mem, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return conclude(err, "mmap")
	}
	defer unix.Munmap(mem)
	at := address(mem)
	return self(func(d *proc.Dir) error {
		list, err := d.Maps()
		if err != nil {
			return conclude(err, "maps")
		}
		i := slices.IndexFunc(list, func(v proc.VMA) bool { return v.Start == at })
		if i < 0 {
			return lack(nil, "a mapped file of overlayfs is not in maps")
		}
		v := &list[i]
		if v.DevMajor != unix.Major(st.Dev) || v.DevMinor != unix.Minor(st.Dev) || v.Inode != st.Ino {
			return lack(nil, "maps says %d:%d inode %d of a file on overlayfs, fstat says %d:%d inode %d",
				v.DevMajor, v.DevMinor, v.Inode, unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
		}
		return nil
	})
}

// mappingSize returns the size of the engine's mapping that starts at an
// address.
func mappingSize(start uint64) (uintptr, error) {
	var size uintptr
	err := self(func(d *proc.Dir) error {
		list, err := d.Maps()
		if err != nil {
			return conclude(err, "maps")
		}
		i := slices.IndexFunc(list, func(v proc.VMA) bool { return v.Start == start })
		if i < 0 {
			return lack(nil, "there is no mapping at %#x", start)
		}
		size = uintptr(list[i].Len())
		return nil
	})
	return size, err
}
