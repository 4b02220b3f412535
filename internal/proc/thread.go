package proc

import "strconv"

// Thread is /proc/PID/task/TID of an open Dir. It holds nothing open itself.
type Thread struct {
	dir    *Dir
	prefix string
}

// Thread returns the view of one thread. That the thread exists shows when it
// is read.
func (d *Dir) Thread(tid TID) Thread {
	return Thread{dir: d, prefix: "task/" + strconv.Itoa(int(tid)) + "/"}
}

// ReadFile returns the contents of a file below /proc/PID/task/TID. The bytes
// are the caller's.
func (t Thread) ReadFile(name string) ([]byte, error) { return t.dir.ReadFile(t.prefix + name) }

// Link returns what a link below /proc/PID/task/TID says, see Dir.Link.
func (t Thread) Link(name string) (string, error) { return t.dir.link(t.prefix, name) }

// Stat reads the thread's stat. See proc_pid_stat(5).
func (t Thread) Stat() (Stat, error) { return parsed(t.dir, t.prefix, "stat", parseStat) }

// Status reads the thread's status. See proc_pid_status(5).
func (t Thread) Status() (Status, error) { return parsed(t.dir, t.prefix, "status", parseStatus) }

// Comm returns the thread's name. See PR_SET_NAME(2const).
func (t Thread) Comm() (string, error) { return parsed(t.dir, t.prefix, "comm", parseComm) }

// Syscall tells which system call the thread is in. See proc_pid_syscall(5).
func (t Thread) Syscall() (Syscall, error) { return parsed(t.dir, t.prefix, "syscall", parseSyscall) }

// Cgroups reads the thread's cgroups: in some hierarchies threads are moved one
// by one.
func (t Thread) Cgroups() ([]Cgroup, error) { return parsed(t.dir, t.prefix, "cgroup", parseCgroups) }

// ThreadStat is Thread(tid).Stat.
func (d *Dir) ThreadStat(tid TID) (Stat, error) { return d.Thread(tid).Stat() }

// ThreadStatus is Thread(tid).Status.
func (d *Dir) ThreadStatus(tid TID) (Status, error) { return d.Thread(tid).Status() }

// ThreadComm is Thread(tid).Comm.
func (d *Dir) ThreadComm(tid TID) (string, error) { return d.Thread(tid).Comm() }

// Stat reads /proc/PID/stat. See proc_pid_stat(5).
func (d *Dir) Stat() (Stat, error) { return parsed(d, "", "stat", parseStat) }

// Status reads /proc/PID/status. See proc_pid_status(5).
func (d *Dir) Status() (Status, error) { return parsed(d, "", "status", parseStatus) }

// Comm returns the name of the leading thread. See proc_pid_comm(5).
func (d *Dir) Comm() (string, error) { return parsed(d, "", "comm", parseComm) }

// parsed reads a file and parses it.
func parsed[T any](d *Dir, prefix, name string, parse func([]byte) (T, error)) (T, error) {
	var v T
	err := d.read(prefix, name, func(b []byte) (err error) {
		v, err = parse(b)
		return err
	})
	return v, err
}
