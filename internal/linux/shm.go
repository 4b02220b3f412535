package linux

// From include/uapi/linux/shm.h and include/linux/shm.h; see shmctl(2).
const (
	SHM_RDONLY  = 0o10000
	SHM_LOCK    = 11
	SHM_DEST    = 0o1000 // it goes with its last attachment
	SHM_LOCKED  = 0o2000
	SHM_HUGETLB = 0o4000

	// ShmNextID is where the id of the next segment is asked for, Linux 3.9,
	// CONFIG_CHECKPOINT_RESTORE.
	ShmNextID = "/proc/sys/kernel/shm_next_id"
)
