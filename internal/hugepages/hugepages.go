// Package hugepages is what the kernel tells of huge pages (hugetlbfs): which
// sizes there are, on which file system of its own each is, and how many are
// free. See Documentation/admin-guide/mm/hugetlbpage.rst.
package hugepages

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// shifts are the sizes that any CPU has, as powers of 2: MAP_HUGE_* of
// include/uapi/asm-generic/hugetlb_encode.h.
var shifts = [...]uint{14, 16, 19, 20, 21, 23, 24, 25, 28, 29, 30, 31, 34}

// Mask are the bits in which MAP_HUGETLB, MFD_HUGETLB and SHM_HUGETLB have the
// size.
const Mask = unix.MAP_HUGE_MASK << unix.MAP_HUGE_SHIFT

// AnonName is what the kernel calls the file behind a mapping of MAP_ANONYMOUS
// and MAP_HUGETLB.
const AnonName = "/anon_hugepage"

// Flag returns the bits of Mask that stand for a size in bytes.
func Flag(size uint64) uint32 {
	return uint32(bits.TrailingZeros64(size)) << unix.MAP_HUGE_SHIFT
}

// Size returns the size in bytes that flags have in Mask, 0 if none that can be.
func Size(flags uint32) uint64 {
	n := uint(flags&Mask) >> unix.MAP_HUGE_SHIFT
	for _, s := range shifts {
		if s == n {
			return 1 << s
		}
	}
	return 0
}

// Default returns the size that a mapping without one in its flags has, 0 if this
// machine has no huge pages.
func Default() uint64 {
	n, err := unix.MemfdCreate("glis", unix.MFD_CLOEXEC|unix.MFD_HUGETLB)
	if err != nil {
		return 0
	}
	defer unix.Close(n) //nolint:errcheck // nothing was written
	size, err := OfFile(n)
	if err != nil {
		return 0
	}
	return size
}

// OfDevice returns the size of the pages of the kernel's own hugetlbfs that has
// this device number, 0 if it is none: memfds, System V shared memory and
// anonymous memory are there, each size on a file system of its own.
//
// What Learn could not ask for it doesn't know.
func OfDevice(dev uint64) uint64 {
	all, _ := devices() // see Learn
	return all[dev]
}

// devices are those file systems, and the sizes of their pages. They stay as long
// as the machine runs, and to ask takes forty calls.
var devices = sync.OnceValues(func() (map[uint64]uint64, error) {
	out := map[uint64]uint64{}
	var errs []error
	for _, s := range shifts {
		n, err := unix.MemfdCreate("glis", unix.MFD_CLOEXEC|unix.MFD_HUGETLB|int(s<<unix.MAP_HUGE_SHIFT))
		if noSuchPages(err) {
			continue
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(n, &st)
			_ = unix.Close(n) // nothing was written
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("is there a file system of pages of %d KiB? %w", 1<<s>>10, err))
			continue
		}
		out[st.Dev] = 1 << s
	}
	return out, errors.Join(errs...)
})

// noSuchPages tells whether memfd_create(2) says that the CPU has no huge pages of
// a size, or the kernel none at all (CONFIG_HUGETLBFS).
func noSuchPages(err error) bool {
	return slices.ContainsFunc([]error{unix.ENODEV, unix.ENOENT, unix.EINVAL, unix.ENOSYS}, func(e error) bool { return errors.Is(err, e) })
}

// Learn asks for what is known of huge pages, for those who have no time later, and
// fails if that can't be told: what is on such pages would be taken for a file.
func Learn() error {
	_, err := devices()
	return err
}

// OfFile returns the size of the pages that an open file consists of, 0 if it is
// not on a hugetlbfs.
func OfFile(fd int) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, fmt.Errorf("fstatfs: %w", err)
	}
	if st.Type != unix.HUGETLBFS_MAGIC || st.Bsize <= 0 {
		return 0, nil
	}
	return uint64(st.Bsize), nil
}

// hugeID is the bit of an id that belongs to a file of huge pages.
const hugeID = 1 << 31

// SharedID returns the number that images know a memfd or shared memory by, from
// its device and inode. Files of huge pages count their inodes by themselves, so
// theirs have a bit that the others don't.
func SharedID(dev, ino uint64) uint32 {
	if ino >= hugeID || OfDevice(dev) == 0 {
		return uint32(ino)
	}
	return uint32(ino) | hugeID
}
