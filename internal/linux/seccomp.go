package linux

// From include/uapi/linux/seccomp.h and filter.h, see seccomp(2).
const (
	SECCOMP_SET_MODE_STRICT         = 0
	SECCOMP_SET_MODE_FILTER         = 1
	SECCOMP_FILTER_FLAG_TSYNC       = 1 << 0
	SECCOMP_FILTER_FLAG_LOG         = 1 << 1
	SECCOMP_FILTER_FLAG_SPEC_ALLOW  = 1 << 2
	SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 1 << 4 // Linux 5.7
	SECCOMP_RET_USER_NOTIF          = 0x7fc00000
	SECCOMP_RET_ACTION              = 0x7fff0000
	BPF_MAXINSNS                    = 4096
	BPF_RET_K                       = 0x06 // BPF_RET | BPF_K
	SizeofSockFilter                = 8
	PTRACE_SECCOMP_GET_METADATA     = 0x420d // Linux 4.16
)
