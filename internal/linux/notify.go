package linux

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// INOTIFY_IOC_SETNEXTWD is _IOW('I', 0, s32) of include/uapi/linux/inotify.h:
// the number of the next watch. Linux 4.18, CONFIG_CHECKPOINT_RESTORE.
const INOTIFY_IOC_SETNEXTWD = 0x40044900

// IN_SETTABLE is the bits of a watch's mask that inotify_add_watch(2) takes:
// events, IN_EXCL_UNLINK and IN_ONESHOT.
const IN_SETTABLE = 0x00000fff | 0x04000000 | 0x80000000

// watchTries is how many numbers are passed over where the kernel can't be asked
// for one.
const watchTries = 1 << 20

// AddWatch is inotify_add_watch(2) with the number that the watch is to have. Numbers
// are given in order, so those of an inotify file have to be asked for so.
func AddWatch(inotify int, name string, mask, wd uint32) error {
	_ = unix.IoctlSetInt(inotify, INOTIFY_IOC_SETNEXTWD, int(wd)) // Linux 4.18
	for range watchTries {
		got, err := unix.InotifyAddWatch(inotify, name, mask)
		if err != nil {
			return err
		}
		if uint32(got) == wd {
			return nil
		}
		if uint32(got) > wd {
			break
		}
		if _, err := unix.InotifyRmWatch(inotify, uint32(got)); err != nil {
			return err
		}
	}
	return errors.New("this kernel gives another number; another watch of the same file has it, or Linux 4.18 is needed")
}

// FANOTIFY_UNPRIV is a flag of include/linux/fanotify.h that the kernel gives a fanotify file
// which somebody without CAP_SYS_ADMIN makes (Linux 5.13): who reads it is not told which other
// process did something. fdinfo doesn't show it.
const FANOTIFY_UNPRIV = 1 << 31

// FanotifyInit is fanotify_init(2) for flags as the kernel has them: with FANOTIFY_UNPRIV the
// file is made without CAP_SYS_ADMIN, which is the only way to come by that flag.
func FanotifyInit(flags, events uint32) (n int, err error) {
	if flags&FANOTIFY_UNPRIV == 0 {
		return unix.FanotifyInit(uint(flags), uint(events))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n, err = fanotifyUnprivileged(uint(flags&^FANOTIFY_UNPRIV), uint(events))
	}()
	<-done
	return n, err
}

// fanotifyUnprivileged calls fanotify_init(2) in a thread that lacks CAP_SYS_ADMIN meanwhile.
// It must have a goroutine of its own: a thread that can't have it back ends with that.
func fanotifyUnprivileged(flags, events uint) (int, error) {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, less [2]unix.CapUserData
	if err := unix.Capget(&header, &all[0]); err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	less = all
	less[unix.CAP_SYS_ADMIN/32].Effective &^= 1 << (unix.CAP_SYS_ADMIN % 32)
	err := unix.Capset(&header, &less[0])
	n := -1
	if err == nil {
		n, err = unix.FanotifyInit(flags, events)
	}
	if unix.Capset(&header, &all[0]) == nil {
		runtime.UnlockOSThread()
	}
	return n, err
}

// Mark is what fanotify(7) reports of a file, or of a mount.
type Mark struct {
	Name    string
	Mount   bool
	Flags   uint32 // FAN_MARK_*, as fdinfo has them
	Mask    uint32 // of events
	Ignored uint32 // of such as are not reported
}

// AddMark makes a mark: what is watched, then what is ignored there. how is further
// FAN_MARK_*: whether a link is followed.
func AddMark(fanotify int, m *Mark, how uint) error {
	how |= unix.FAN_MARK_ADD
	if m.Mount {
		how |= unix.FAN_MARK_MOUNT
	}
	const kept = unix.FAN_MARK_EVICTABLE
	if m.Mask != 0 {
		if err := unix.FanotifyMark(fanotify, how|uint(m.Flags)&kept, uint64(m.Mask), unix.AT_FDCWD, m.Name); err != nil {
			return err
		}
	}
	if m.Ignored == 0 {
		return nil
	}
	const ignoring = unix.FAN_MARK_IGNORED_MASK | unix.FAN_MARK_IGNORED_SURV_MODIFY | unix.FAN_MARK_IGNORE
	how |= uint(m.Flags) & (ignoring | kept)
	if m.Flags&unix.FAN_MARK_IGNORE == 0 {
		how |= unix.FAN_MARK_IGNORED_MASK
	}
	return unix.FanotifyMark(fanotify, how, uint64(m.Ignored), unix.AT_FDCWD, m.Name)
}
