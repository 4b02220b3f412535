package restore

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/mem"
)

// sharedMemory returns a descriptor of shared anonymous memory that a task
// has mapped already, through /proc/PID/map_files.
func (r *restore) sharedMemory(u mem.Use) (*fd.FD, error) {
	if f := r.shared[u]; f != nil {
		return f, nil
	}
	owner := r.tree.byPID[u.Owner]
	if owner == nil || owner.live == nil {
		return nil, fmt.Errorf("shared memory %#x: its owner %d does not exist yet", u.ID, u.Owner)
	}
	path := fmt.Sprintf("/proc/%d/map_files/%x-%x", owner.live.thread.Tgid, u.Start, u.End)
	n, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("shared memory of %v: open %s: %w", owner, path, err)
	}
	if r.shared == nil {
		r.shared = map[mem.Use]*fd.FD{}
	}
	r.shared[u] = fd.New(n)
	return r.shared[u], nil
}
