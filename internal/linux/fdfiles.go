package linux

// TFD_IOC_SET_TICKS is _IOW('T', 0, u64) of linux/timerfd.h: how often a
// timerfd has expired (CONFIG_CHECKPOINT_RESTORE).
const TFD_IOC_SET_TICKS = 0x40085400

// From include/uapi/linux/pidfd.h.
const (
	PIDFD_GET_INFO  = 0xC040FF0B // _IOWR(0xFF, 11, struct pidfd_info), Linux 6.13
	PIDFD_INFO_EXIT = 1 << 3     // Linux 6.15
)

// INOTIFY_IOC_SETNEXTWD is _IOW('I', 0, s32) of include/uapi/linux/inotify.h:
// the number of the next watch. Linux 4.18, CONFIG_CHECKPOINT_RESTORE.
const INOTIFY_IOC_SETNEXTWD = 0x40044900

// IN_SETTABLE is the bits of a watch's mask that inotify_add_watch(2) takes:
// events, IN_EXCL_UNLINK and IN_ONESHOT.
const IN_SETTABLE = 0x00000fff | 0x04000000 | 0x80000000
