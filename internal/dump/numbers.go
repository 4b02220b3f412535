package dump

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/scan"
)

// numbers returns the descriptors of a task, ascending. To list a directory of
// /proc the kernel makes an inode for each, which takes 1.5 µs; the table itself is
// one piece of its memory. That is only believed if it has as many as the directory
// says that there are (Linux 6.2). Nobody else reads the kernel's memory while
// files are looked for.
func (f *files) numbers(t *scan.Task) ([]int32, error) {
	var st unix.Stat_t
	if f.memory == nil || unix.Fstatat(t.Dir.Fd(), "fd", &st, 0) != nil || st.Size < manyDescriptors {
		return t.Dir.FDs()
	}
	r, err := f.memory.Reader()
	if err != nil {
		return t.Dir.FDs()
	}
	fds, err := r.Descriptors(t.Pidfd.Int())
	if err != nil || int64(len(fds)) != st.Size {
		return t.Dir.FDs()
	}
	return fds, nil
}
