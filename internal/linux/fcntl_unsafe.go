package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// FIOASYNC sets and clears O_ASYNC, see ioctl_fioasync() in fs/ioctl.c
// (include/uapi/asm-generic/ioctls.h).
const FIOASYNC = 0x5452

// What F_NOTIFY asks for, see fcntl(2) and include/uapi/linux/fcntl.h.
const (
	DN_ACCESS    = 0x1
	DN_MODIFY    = 0x2
	DN_CREATE    = 0x4
	DN_DELETE    = 0x8
	DN_RENAME    = 0x10
	DN_ATTRIB    = 0x20
	DN_MULTISHOT = 0x8000_0000
)

// From include/uapi/asm-generic/fcntl.h; see F_GETOWN_EX and F_SETSIG in
// fcntl(2).
const (
	F_SETSIG        = 10
	F_GETSIG        = 11
	F_SETOWN_EX     = 15
	F_GETOWN_EX     = 16
	F_GETOWNER_UIDS = 17 // Linux 3.7, CONFIG_CHECKPOINT_RESTORE
	F_OWNER_TID     = 0
	F_OWNER_PID     = 1
	F_OWNER_PGRP    = 2
	F_SEAL_EXEC     = 0x20 // Linux 6.3, include/uapi/linux/fcntl.h
	MFD_NOEXEC_SEAL = 0x8  // Linux 6.3, include/uapi/linux/memfd.h
	MFD_EXEC        = 0x10 // Linux 6.3
	MFD_HUGETLB     = 0x4
	KCMP_EPOLL_TFD  = 7 // Linux 4.13, include/uapi/linux/kcmp.h
	EPIOCGPARAMS    = 0x80088A02
)

// FOwnerEx is struct f_owner_ex: whom the signals of a file go to.
type FOwnerEx struct{ Type, PID int32 }

// FcntlGetOwnerEx is fcntl(2) with F_GETOWN_EX. PID is 0 if nobody is told.
func FcntlGetOwnerEx(fd int) (FOwnerEx, error) {
	var o FOwnerEx
	if _, _, e := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), F_GETOWN_EX, uintptr(unsafe.Pointer(&o))); e != 0 {
		return o, e
	}
	return o, nil
}

// FcntlSetOwnerEx is fcntl(2) with F_SETOWN_EX. The file remembers the calling
// thread's user IDs.
func FcntlSetOwnerEx(fd int, o FOwnerEx) error {
	if _, _, e := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), F_SETOWN_EX, uintptr(unsafe.Pointer(&o))); e != 0 {
		return e
	}
	return nil
}

// FcntlGetOwnerUIDs is fcntl(2) with F_GETOWNER_UIDS: the real and effective
// user of whoever set the owner. EINVAL without CONFIG_CHECKPOINT_RESTORE.
func FcntlGetOwnerUIDs(fd int) (uid, euid uint32, err error) {
	var u [2]uint32
	if _, _, e := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), F_GETOWNER_UIDS, uintptr(unsafe.Pointer(&u))); e != 0 {
		return 0, 0, e
	}
	return u[0], u[1], nil
}

// KcmpEpoll tells whether descriptor fd of process pid is what the epoll file
// efd of process epid watches: the nth (from 0) of its targets that were added
// as number tfd. See KCMP_EPOLL_TFD in kcmp(2), Linux 4.13. ENOENT: there is
// no such target; EBADF: no such descriptor.
func KcmpEpoll(pid, fd, epid, efd int, tfd int32, nth uint32) (bool, error) {
	slot := struct{ efd, tfd, toff uint32 }{uint32(efd), uint32(tfd), nth}
	r, _, e := unix.RawSyscall6(unix.SYS_KCMP, uintptr(pid), uintptr(epid), KCMP_EPOLL_TFD, uintptr(fd), uintptr(unsafe.Pointer(&slot)), 0)
	if e != 0 {
		return false, e
	}
	return r == 0, nil
}
