// Package scan is the read-only picture of a frozen tree: its tasks, threads,
// open files and who shares what. The stages of a dump fill it in; kinds only
// read it.
package scan

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/taskmem"
)

// VPID is a process or thread number as the task's own PID namespace has it:
// the one that images carry. proc.PID and proc.TID are the engine's view.
type VPID uint32

// Tree is everything a dump is about.
type Tree struct {
	Root  *Task
	Tasks []*Task // parents before children
	Files []*File // open file descriptions, each once; IDs start at 1
	// Leased are those with a lease (F_SETLEASE), of which there are few; see AddFile.
	Leased []*File
	byPID  map[proc.PID]*Task
}

// AddFile makes an open file known, and gives it its ID.
func (t *Tree) AddFile(f *File) {
	t.Files = append(t.Files, f)
	f.ID = uint32(len(t.Files))
	if f.Info().Leased() {
		t.Leased = append(t.Leased, f)
	}
}

// Task is one process of the tree.
type Task struct {
	PID      proc.PID
	VPID     VPID
	Parent   *Task // nil for the root
	Children []*Task
	Threads  []*Thread // the leader first
	// Ended is the first thread if that has ended while others go on: it has given
	// up its part in memory and files, so the first of the others is the leader
	// here, and Dir and Pidfd are of that.
	Ended   *Thread
	Dir     *proc.Dir
	Pidfd   *fd.FD
	Stat    proc.Stat
	Status  proc.Status
	Zombie  bool
	Stopped bool        // by a job-control signal
	StopSig unix.Signal // which one
	// Alike says that all threads have in common whatever a thread may leave; it
	// may be false for all that.
	Alike bool
	VMAs  []proc.VMA
	// Packed is VMAs, if they are put down, because there are many tasks; nil: they are not.
	Packed proc.Packed
	FDs    []Ref // ascending
	IDs    IDs
	Arena  *remote.Arena // memory of ours in it; nil for a zombie
	Insn   remote.Addr   // a system-call instruction of the task's own
}

// IDs name the kernel objects that tasks may share; equal numbers, same
// object (as in ids-PID.img).
type IDs struct{ VM, Files, FS, Sighand uint32 }

// Block is the head of the kernel's struct restart_block behind its function, which
// differs from one kind of call to the other, and what clocks showed in the initial time
// namespace when it was read, in ns.
type Block struct {
	Words               [4]uint64
	Monotonic, Boottime int64
}

// Thread is one thread of a task.
type Thread struct {
	remote.Thread
	VTID VPID
	Task *Task
	// Status is of this thread; of threads that are alike, and where no signals tell
	// them apart, that of one of them but for their names and numbers.
	Status *proc.Status
	Rseq   linux.RseqConfig
	Filter uint32 // number of its oldest seccomp filter, if it has any
	// Confined says that it may not mount in spite of its capabilities.
	Confined bool
	Joined   bool            // its seccomp filters are in images as its leader's alone
	Pending  []linux.Siginfo // thread-directed
	Shared   []linux.Siginfo // process-directed; only in the leader

	// Seen is what the kernel's memory told of it, nil if nobody looked. Like is then
	// another thread of the task that the same is true of, but for what Seen says,
	// and that is asked for it; nil if there is none. Witness says that it is asked
	// nevertheless, so that both ways can be compared.
	Seen    *taskmem.Thread
	Like    *Thread
	Witness bool

	// Block is what the kernel has about a call of it that was interrupted before,
	// where that was asked for; else nil.
	Block *Block

	Cgroups   []proc.Cgroup // with --manage-cgroups, in order of names
	CgroupSet uint32        // number of that set of them; 0: not looked at
}

// Leader returns the thread that is asked for what belongs to the process: the
// thread-group leader unless that has ended.
func (t *Task) Leader() *Thread { return t.Threads[0] }

// Via is the number by which the kernel finds what a process has: that of a
// thread that has a part in it.
func (t *Task) Via() int {
	if t.Ended != nil {
		return int(t.Threads[0].TID)
	}
	return int(t.PID)
}

// First tells whether a thread is the one that its process has its number from.
func (th *Thread) First() bool { return proc.PID(th.TID) == th.Tgid }

// String names the task as messages do: "task 12 (nginx)".
func (t *Task) String() string { return fmt.Sprintf("task %d (%s)", t.PID, t.Stat.Comm) }

// Add puts a task into the tree.
func (t *Tree) Add(task *Task) {
	if t.byPID == nil {
		t.byPID = map[proc.PID]*Task{}
	}
	t.byPID[task.PID] = task
	t.Tasks = append(t.Tasks, task)
}

// Remove takes a task out of the tree that has ended, and has no children in it.
func (t *Tree) Remove(task *Task) {
	same := func(x *Task) bool { return x == task }
	delete(t.byPID, task.PID)
	t.Tasks = slices.DeleteFunc(t.Tasks, same)
	if task.Parent != nil {
		task.Parent.Children = slices.DeleteFunc(task.Parent.Children, same)
	}
}

// Task returns the task with this number, or nil.
func (t *Tree) Task(pid proc.PID) *Task { return t.byPID[pid] }

// Ref is one use of an open file: a descriptor of a task.
type Ref struct {
	FD      int32
	Cloexec bool
	File    *File
}

// File is an open file description (or a file that is only mapped, or a
// task's exe, cwd or root). There may be very many.
type File struct {
	Task  *Task // through which we look at it
	ID    uint32
	FD    int32  // its number there, -1 if it is no descriptor
	Flags uint32 // O_*, without O_CLOEXEC
	MntID int32
	Pos   int64
	// Place is where the kernel has it while the tree stands still (struct file); 0: not known.
	Place uint64
	// Beside is where it is below /proc/PID, "" if that is where descriptors are:
	// "map_files/…", "exe", "cwd", "root".
	Beside string
	Link   string // what readlink(2) says of Path
	Stat   Stat
	// Told is what else fdinfo tells, nil if it is nothing; see Info.
	Told  *proc.FDInfo
	Users []User // every descriptor that refers to it, in task order
	// NoFamily is why Family could not be told.
	NoFamily error
	// Within is the socket in whose queue it is, if no task has it as a
	// descriptor. Task is the engine then, which has got it.
	Within *File
	// Hangs is what hangs on it, if another file is dumped in its place (package
	// standin): what that tells of itself is not it. Nil of all others.
	Hangs *Hanging
	// Family is the address family of a socket, once somebody has asked for it;
	// 0 (AF_UNSPEC, which no socket has) before.
	Family int32
	// Found says that Link leads to it, Unowned that nobody was ever to be told
	// of I/O on it (F_SETOWN, F_SETSIG). They may be false for all that.
	Found, Unowned bool
}

// Hanging is what hangs on an open file that nobody can be asked for.
type Hanging struct {
	Owner   *sockmem.Owner // who is told of I/O, nil if there is nobody
	Watched []Watched
}

// Watched is that an epoll file watches another one.
type Watched struct {
	By     *File
	Number int32  // the descriptor by which the other one was added
	Nth    uint32 // how many others that were added by that number come before it, see kcmp(2)
}

// Path is where a file is below /proc/PID: "fd/3", "map_files/…", "exe", "cwd", "root".
func (f *File) Path() string {
	if f.Beside == "" && f.FD >= 0 {
		return "fd/" + strconv.Itoa(int(f.FD))
	}
	return f.Beside
}

// Info is what fdinfo tells, but for what fields of the file say; empty if the file is no
// descriptor. It is only read.
func (f *File) Info() *proc.FDInfo {
	if f.Told == nil {
		return &proc.FDInfo{}
	}
	return f.Told
}

// Stat is what is wanted of what stat(2) tells.
type Stat struct {
	Dev, Ino, Rdev        uint64
	Size                  int64
	Mode, Nlink, UID, GID uint32
}

// StatOf returns what is wanted of st.
func StatOf(st *unix.Stat_t) Stat {
	return Stat{Dev: st.Dev, Ino: st.Ino, Rdev: st.Rdev, Size: st.Size, Mode: st.Mode, Nlink: uint32(min(uint64(st.Nlink), math.MaxUint32)), UID: st.Uid, GID: st.Gid}
}

// At fills it in from a file below a directory of the engine's, or from that itself if path
// is "".
func (s *Stat) At(dir int, path string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, path, &st, unix.AT_EMPTY_PATH)
	*s = StatOf(&st)
	return err
}

// User is a descriptor of a task that refers to a file.
type User struct {
	Task *Task
	FD   int32
}

// String names the file as messages do.
func (f *File) String() string {
	if f.Within != nil {
		return fmt.Sprintf("%v, a file in its queue (%s)", f.Within, f.Link)
	}
	if f.FD >= 0 {
		return fmt.Sprintf("%v, descriptor %d (%s)", f.Task, f.FD, f.Link)
	}
	return fmt.Sprintf("%v, %s (%s)", f.Task, f.Path(), f.Link)
}

// Borrow duplicates the descriptor into the engine. The duplicate shares the
// open file description: never seek, never set O_NONBLOCK, read queues only by
// peeking. The caller closes it.
func (f *File) Borrow() (*fd.FD, error) {
	if f.FD < 0 {
		return nil, fmt.Errorf("%v: not a descriptor", f)
	}
	d, err := fd.Borrow(f.Task.Pidfd.Int(), f.FD)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	return d, nil
}

// Find returns the file behind a descriptor of a task, or nil.
func (t *Task) Find(n int32) *File {
	i, ok := slices.BinarySearchFunc(t.FDs, n, func(r Ref, n int32) int { return int(r.FD - n) })
	if !ok {
		return nil
	}
	return t.FDs[i].File
}
