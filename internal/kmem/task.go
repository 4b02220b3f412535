package kmem

import "fmt"

// taskNames are the members that Task needs. Since Linux 6.9 pidfds are on a
// file system of their own, pidfs.
func taskNames() []string {
	return []string{"task_struct", "task_struct.pid_links", "pid.tasks", "?file.f_inode", "?inode.i_private"}
}

// Task returns where the process behind a pidfd is, or rather its first thread: a
// struct task_struct.
func (r *Reader) Task(pidfd int) (Addr, error) {
	file, err := r.File(pidfd)
	if err != nil {
		return 0, err
	}
	pid, err := r.Private(file)
	if err == nil && pid == 0 && r.Has("file.f_inode") && r.Has("inode.i_private") {
		if pid, err = r.Pointer(file + r.Off("file.f_inode")); err == nil {
			pid, err = r.Pointer(pid + r.Off("inode.i_private"))
		}
	}
	if err != nil {
		return 0, err
	}
	// The first list of a struct pid is that of the thread that has it.
	link, err := r.Pointer(pid + r.Off("pid.tasks"))
	if err != nil {
		return 0, err
	}
	if link == 0 {
		return 0, fmt.Errorf("%w: the process of pidfd %d has ended", ErrUnavailable, pidfd)
	}
	return link - r.Off("task_struct.pid_links"), nil
}
