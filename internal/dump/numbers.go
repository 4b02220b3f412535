package dump

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// numbers returns the descriptors of a task, ascending, and where the kernel has the files,
// if that is known of them all. To list a directory of
// /proc the kernel makes an inode for each, which takes 1.5 µs; the table itself is
// one piece of its memory. That is only believed if it has as many as the directory
// says that there are (Linux 6.2). Nobody else reads the kernel's memory while
// files are looked for.
func (f *files) numbers(t *scan.Task) ([]int32, []kmem.Addr, error) {
	if fds, places := f.table(t); places != nil {
		return fds, places, nil
	}
	fds, err := t.Dir.FDs()
	return fds, nil, err
}

func (f *files) table(t *scan.Task) ([]int32, []kmem.Addr) {
	var st unix.Stat_t
	if f.memory == nil || unix.Fstatat(t.Dir.Fd(), "fd", &st, 0) != nil || st.Size < manyDescriptors {
		return nil, nil
	}
	r, err := f.memory.Reader()
	if err != nil {
		return nil, nil
	}
	fds, places, err := r.Descriptors(t.Pidfd.Int())
	if err != nil || int64(len(fds)) != st.Size {
		return nil, nil
	}
	return fds, places
}
