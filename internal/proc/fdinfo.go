package proc

import (
	"slices"
	"strconv"
)

// FDInfo is /proc/PID/fdinfo/N, see proc_pid_fdinfo(5). Of the pointers at
// most the one of the file's kind is set.
type FDInfo struct {
	Pos   int64
	Flags uint32 // O_*; O_CLOEXEC is the descriptor's, the rest the file's
	MntID int32  // as in mountinfo
	Ino   uint64 // Linux 5.14
	Locks []Lock

	Eventfd  *Eventfd
	Epoll    []EpollTarget
	Sigmask  *uint64 // of a signalfd: bit n-1 is signal n
	Timerfd  *Timerfd
	Inotify  []InotifyMark
	Fanotify *Fanotify
	Pidfd    *Pidfd
	SCMFDs   uint32  // descriptors in flight to a unix socket, Linux 5.8
	TunName  *string // of a tun file: its device, "" if none
	TTYIndex *int32  // of a pty master: its number
	// Lines that nothing above stands for, such as those of io_uring, BPF
	// maps, dma-buf and drm.
	Rest []string
}

// Leased tells whether a file has a lease (F_SETLEASE), which whoever else opens it breaks.
func (i *FDInfo) Leased() bool {
	return slices.ContainsFunc(i.Locks, func(l Lock) bool { return l.Kind == "LEASE" })
}

// Eventfd is what fdinfo says of an eventfd(2).
type Eventfd struct {
	Count     uint64
	ID        int32 // Linux 5.2
	Semaphore bool  // Linux 6.5; before, false whatever it is
	Told      bool  // Semaphore is
}

// EpollTarget is one descriptor that an epoll(7) file watches. FD is its number
// when it was added: dup2(2) may have put another file there since, which Ino
// and Dev tell.
type EpollTarget struct {
	FD     int32
	Events uint32
	Data   uint64
	Pos    int64
	Ino    uint64
	Dev    uint32 // kernel form: major << 20 | minor
}

// Timerfd is what fdinfo says of a timerfd. Times are in ns.
type Timerfd struct {
	ClockID      int32
	Ticks        uint64 // expirations nobody has read
	SettimeFlags uint32 // TFD_TIMER_*
	Value        uint64 // until the next expiration
	Interval     uint64
}

// FileHandle names an inode as name_to_handle_at(2) does. Data is nil if the
// file system has none.
type FileHandle struct {
	Type uint32
	Data []byte
}

// InotifyMark is one watch, see inotify(7).
type InotifyMark struct {
	WD     int32
	Ino    uint64
	Dev    uint32 // kernel form: major << 20 | minor
	Mask   uint32
	Handle FileHandle
}

// Fanotify is what fdinfo says of a fanotify(7) file.
type Fanotify struct {
	Flags      uint32
	EventFlags uint32
	Marks      []FanotifyMark
}

// FanotifyMark is one mark: on an inode (Handle), a mount (MntID), a file
// system (only Dev) or a mount namespace (MntNS, Linux 6.14).
type FanotifyMark struct {
	On      string // "inode", "mount", "filesystem", "mntns"
	Ino     uint64
	Dev     uint32 // kernel form: major << 20 | minor
	MntID   int32
	MntNS   uint64
	MFlags  uint32
	Mask    uint32
	Ignored uint32
	Handle  FileHandle
}

// Pidfd is what fdinfo says of a pidfd.
type Pidfd struct {
	PID   int32   // in the engine's PID namespace; -1 if dead, 0 if not in it
	NSpid []int32 // from the engine's namespace down to the process's own
}

// Lock is a file lock, see proc_locks(5).
type Lock struct {
	Kind       string // "POSIX", "OFDLCK", "FLOCK", "LEASE", "DELEG"
	Mode       string // "ADVISORY"; of leases "ACTIVE", "BREAKING", "BREAKER"
	Access     string // "READ", "WRITE", "UNLCK"
	PID        int32  // who took it; -1 for an OFD lock
	DevMajor   uint32
	DevMinor   uint32
	Ino        uint64
	Start, End int64 // bytes, End inclusive; LockEOF is the end of the file
}

// LockEOF is the End of a lock that has none.
const LockEOF = 1<<63 - 1

// FDInfo reads what the kernel says of an open descriptor. A descriptor that
// is not open gives fs.ErrNotExist.
func (d *Dir) FDInfo(fd int32) (FDInfo, error) {
	name := "fdinfo/" + strconv.Itoa(int(fd))
	return parsed(d, "", name, func(b []byte) (FDInfo, error) { return parseFDInfo(name, b) })
}
