package inspect

import (
	"time"

	core "glis.dev/glis/image/criu/criu-core"
)

// Report is what a checkpoint holds. See the package comment for its JSON.
type Report struct {
	Directory    string     `json:"directory"`
	ImageVersion string     `json:"image_version"`
	MadeBy       string     `json:"made_by"`
	RunID        string     `json:"run_id,omitempty"`
	When         *time.Time `json:"when,omitempty"`
	UptimeUS     uint64     `json:"uptime_us,omitempty"`
	Machine      string     `json:"machine,omitempty"`
	Checksums    string     `json:"checksums,omitempty"`
	TaskCount    int        `json:"task_count"`
	ThreadCount  int        `json:"thread_count"`
	ZombieCount  int        `json:"zombie_count"`
	FileCount    int        `json:"file_count"`
	Bytes        uint64     `json:"bytes"`
	Dump         *Dump      `json:"dump,omitempty"`
	Tasks        []*Task    `json:"tasks"`
	Files        []*File    `json:"files"`
	Pipes        []*Pipe    `json:"pipes,omitempty"`
	Shared       []*Shared  `json:"shared_memory,omitempty"`
	Locks        []Lock     `json:"locks,omitempty"`
	OtherImages  []string   `json:"other_images,omitempty"`
	OtherFiles   []string   `json:"other_files,omitempty"`
}

// Dump is what the dump's statistics say.
type Dump struct {
	FreezingUS   uint32 `json:"freezing_us"`
	FrozenUS     uint32 `json:"frozen_us"`
	MemdumpUS    uint32 `json:"memdump_us"`
	MemwriteUS   uint32 `json:"memwrite_us"`
	PagesWritten uint64 `json:"pages_written"`
}

// Task is one process.
type Task struct {
	PID     uint32 `json:"pid"`
	Parent  uint32 `json:"parent"` // 0 for the root of the tree
	Group   uint32 `json:"group"`
	Session uint32 `json:"session"`
	Name    string `json:"name"`
	// State is "running", "stopped" or "zombie"; "helper" and "thread" are
	// not seen in complete checkpoints.
	State      string   `json:"state"`
	StopSignal string   `json:"stop_signal,omitempty"`
	Exit       string   `json:"exit,omitempty"` // of a zombie: "status 3" or "signal SIGKILL"
	Threads    []Thread `json:"threads,omitempty"`
	UID        uint32   `json:"uid"`
	GID        uint32   `json:"gid"`
	Exe        string   `json:"exe,omitempty"`
	Cwd        string   `json:"cwd,omitempty"`
	Root       string   `json:"root,omitempty"`
	Umask      *uint32  `json:"umask,omitempty"`
	// Namespaces are those that are not the root task's surroundings:
	// "net", "mnt" and so on.
	Namespaces []string `json:"namespaces,omitempty"`
	Seccomp    string   `json:"seccomp,omitempty"` // "strict" or "filter"

	MappedBytes   uint64   `json:"mapped_bytes"`
	StoredBytes   uint64   `json:"stored_bytes"`
	InParentBytes uint64   `json:"in_parent_bytes,omitempty"`
	Memory        []Memory `json:"memory,omitempty"`
	MemoryOf      uint32   `json:"memory_of,omitempty"`

	Descriptors   []Descriptor `json:"descriptors,omitempty"`
	DescriptorsOf uint32       `json:"descriptors_of,omitempty"`

	ids *core.TaskKobjIdsEntry
}

// alive reports whether there is more to the task than its end.
func (t *Task) alive() bool { return t.State == stateRunning || t.State == stateStopped }

// Thread is one thread; the first one of a task is its leader.
type Thread struct {
	TID  uint32 `json:"tid"`
	Name string `json:"name,omitempty"`
}

// Memory is all mappings of one kind of a task.
type Memory struct {
	// Kind is "code", "file-private", "file-shared", "heap", "stack",
	// "anonymous", "shared", "vdso" or "other".
	Kind          string `json:"kind"`
	Mappings      int    `json:"mappings"`
	MappedBytes   uint64 `json:"mapped_bytes"`
	StoredBytes   uint64 `json:"stored_bytes"` // in this checkpoint's pages
	InParentBytes uint64 `json:"in_parent_bytes,omitempty"`
}

// Descriptor is one number in a table of descriptors.
type Descriptor struct {
	FD      uint32 `json:"fd"`
	File    uint32 `json:"file"`
	Kind    string `json:"kind"`
	CloseOn bool   `json:"cloexec,omitempty"`

	open *File
}

// Holder is where a file is open.
type Holder struct {
	PID uint32 `json:"pid"`
	FD  uint32 `json:"fd"`
}

// File is one open file, which descriptors of several tasks may share.
type File struct {
	ID uint32 `json:"id"`
	// Kind is "file", "pipe", "fifo", "inet socket", "unix socket",
	// "eventfd", "epoll", "inotify", "signalfd", "packet socket", "tty",
	// "fanotify", "netlink socket", "vsock socket", "xdp socket", "namespace", "tun", "external", "timerfd",
	// "memfd", "bpf map", "pidfd", or "kind N" for one that is not known.
	Kind      string   `json:"kind"`
	Name      string   `json:"name,omitempty"`
	NameBytes []byte   `json:"name_bytes,omitempty"`
	Flags     []string `json:"flags,omitempty"` // of open(2), in words
	Position  *uint64  `json:"position,omitempty"`
	Size      *uint64  `json:"size,omitempty"`
	// Remap is how a file without its name comes back: "ghost" is a deleted
	// one kept in the images, "linked" has another name, "procfs" is an entry
	// of an ended task.
	Remap     string    `json:"remap,omitempty"`
	Pipe      *uint32   `json:"pipe,omitempty"`
	Socket    *Socket   `json:"socket,omitempty"`
	Members   []Member  `json:"members,omitempty"` // of an epoll
	Watches   []Watch   `json:"watches,omitempty"` // of an inotify or fanotify
	Counter   *uint64   `json:"counter,omitempty"` // of an eventfd
	Signals   []string  `json:"signals,omitempty"` // of a signalfd
	Timer     *Timer    `json:"timer,omitempty"`
	Terminal  *Terminal `json:"terminal,omitempty"`
	Seals     []string  `json:"seals,omitempty"`         // of a memfd
	Shared    *uint64   `json:"shared_memory,omitempty"` // of a memfd: id of its contents
	PID       *int32    `json:"pid,omitempty"`           // of a pidfd
	Namespace string    `json:"namespace,omitempty"`     // "net", "mnt" and so on
	// Options are the settings that are not at their default.
	Options []Option `json:"options,omitempty"`
	Holders []Holder `json:"holders,omitempty"`

	memfdInode uint32
	ttyInfo    uint32
	nameFrom   *uint32 // id of the regular file that gives it its name
}

// Socket is what is particular to sockets.
type Socket struct {
	Family      string  `json:"family"` // "unix", "inet", "inet6", "netlink", "packet", "vsock", "xdp"
	Type        string  `json:"type"`
	Protocol    string  `json:"protocol,omitempty"`
	State       string  `json:"state,omitempty"`
	Inode       uint32  `json:"inode,omitempty"`
	Local       string  `json:"local,omitempty"`
	Remote      string  `json:"remote,omitempty"`
	Backlog     uint32  `json:"backlog,omitempty"`
	Shutdown    string  `json:"shutdown,omitempty"` // "read", "write" or "both"
	PeerInode   uint32  `json:"peer_inode,omitempty"`
	PeerFile    *uint32 `json:"peer_file,omitempty"`
	External    bool    `json:"external,omitempty"` // made up by others at restore
	Messages    uint64  `json:"queued_messages,omitempty"`
	QueuedBytes uint64  `json:"queued_bytes,omitempty"` // received, not yet read
	QueuedFiles uint64  `json:"queued_files,omitempty"` // that come along with messages
	UnsentBytes uint64  `json:"unsent_bytes,omitempty"`
	// Of a unix socket: connections that wait to be accepted, and who its peer
	// is (SO_PEERCRED).
	Waiting uint64    `json:"waiting_connections,omitempty"`
	Who     *Identity `json:"peer_identity,omitempty"`

	peer   *File
	number *uint32 // of who its peer is
}

// Identity is who made a socket.
type Identity struct {
	PID    uint32   `json:"pid"` // 0: a process outside of the tree
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// Option is a setting that is not at its default.
type Option struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Member is a descriptor that an epoll watches.
type Member struct {
	FD     uint32   `json:"fd"` // its number when it was added
	File   *uint32  `json:"file,omitempty"`
	Kind   string   `json:"kind,omitempty"`
	Events []string `json:"events"`
	Data   string   `json:"data"` // hexadecimal: it may not fit into a number of JSON

	open *File
}

// Watch is one watch of an inotify or fanotify.
type Watch struct {
	ID     uint32   `json:"id"`
	Path   string   `json:"path,omitempty"`
	Device uint32   `json:"device,omitempty"`
	Inode  uint64   `json:"inode,omitempty"`
	Events []string `json:"events"`
}

// Timer is the setting of a timerfd.
type Timer struct {
	Clock      string `json:"clock"`
	RemainsUS  uint64 `json:"remains_us"`
	IntervalUS uint64 `json:"interval_us"`
	Ticks      uint64 `json:"ticks"`
}

// Terminal is what is particular to terminals.
type Terminal struct {
	Type    string  `json:"type"` // "pty", "console", "vt", "current", "external", "serial"
	Index   *uint32 `json:"index,omitempty"`
	Session uint32  `json:"session,omitempty"`
	Group   uint32  `json:"group,omitempty"`
}

// Pipe is what the ends of one pipe or FIFO share.
type Pipe struct {
	ID          uint32   `json:"id"`
	QueuedBytes uint32   `json:"queued_bytes"`
	Size        uint32   `json:"size,omitempty"`    // of its buffer
	Readers     []uint32 `json:"readers,omitempty"` // ids of files
	Writers     []uint32 `json:"writers,omitempty"`

	readers, writers []*File
}

// Shared is one piece of memory that several mappings can show.
type Shared struct {
	ID            uint64   `json:"id"`
	Kind          string   `json:"kind"` // "anonymous", "memfd" or "sysv"
	Name          string   `json:"name,omitempty"`
	Size          *uint64  `json:"size,omitempty"`
	StoredBytes   uint64   `json:"stored_bytes"`
	InParentBytes uint64   `json:"in_parent_bytes,omitempty"`
	Tasks         []uint32 `json:"tasks,omitempty"` // that have it mapped
}

// Lock is a lock on a file.
type Lock struct {
	PID   int32  `json:"pid"`
	FD    int32  `json:"fd"`
	Kind  string `json:"kind"` // "posix", "flock", "ofd" or "lease"
	Type  string `json:"type"` // "read", "write" or "unlock"
	Start int64  `json:"start"`
	Len   int64  `json:"length"`         // 0: up to the end, however long the file gets
	File  uint64 `json:"file,omitempty"` // of one that is only in a message; 0: PID and FD tell
}
