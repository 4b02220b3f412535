package linux

// TFD_IOC_SET_TICKS is _IOW('T', 0, u64) of linux/timerfd.h: how often a
// timerfd has expired (CONFIG_CHECKPOINT_RESTORE).
const TFD_IOC_SET_TICKS = 0x40085400

// From include/uapi/linux/pidfd.h.
const (
	PIDFD_GET_INFO  = 0xC040FF0B // _IOWR(0xFF, 11, struct pidfd_info), Linux 6.13
	PIDFD_INFO_EXIT = 1 << 3     // Linux 6.15
)
