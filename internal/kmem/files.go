package kmem

import (
	"encoding/binary"
	"fmt"
)

// mostFiles is more than any process may have open: fs.nr_open is at most this.
const mostFiles = 1 << 30

// fileNames are the members that Files needs.
func fileNames() []string { return []string{"fdtable", "fdtable.max_fds"} }

// Files returns where the files are, each a struct file, that the process behind
// a pidfd has open, by descriptor. It must not open any meanwhile, or at least not
// so many that the table is another one afterwards, which is an error.
func (r *Reader) Files(pidfd int) (map[int32]Addr, error) {
	out := map[int32]Addr{}
	err := r.eachFile(pidfd, func(fd int32, file Addr) { out[fd] = file })
	return out, err
}

// Descriptors is Files in the order of the numbers.
func (r *Reader) Descriptors(pidfd int) (fds []int32, files []Addr, err error) {
	err = r.eachFile(pidfd, func(fd int32, file Addr) { fds, files = append(fds, fd), append(files, file) })
	return fds, files, err
}

// eachFile calls f with every open file of a process once all are read.
func (r *Reader) eachFile(pidfd int, f func(int32, Addr)) error {
	task, err := r.Task(pidfd)
	if err != nil {
		return err
	}
	files, err := r.Pointer(task + r.Off("task_struct.files"))
	if err != nil {
		return err
	}
	at, err := r.Pointer(files + r.Off("files_struct.fdt"))
	if err != nil {
		return err
	}
	table, err := r.Struct("fdtable", at)
	if err != nil {
		return err
	}
	n := table.U32("fdtable.max_fds")
	if n > mostFiles {
		return fmt.Errorf("%w: a table of %d files", ErrUnavailable, n)
	}
	b := make([]byte, 8*n)
	if err := r.ReadAt(b, table.Pointer("fdtable.fd")); err != nil {
		return err
	}
	if again, err := r.Pointer(files + r.Off("files_struct.fdt")); err != nil || again != at {
		return fmt.Errorf("%w: the table of files has changed while it was read (%w)", ErrUnavailable, err)
	}
	for i := range n {
		if file := binary.NativeEndian.Uint64(b[8*i:]); file != 0 {
			f(int32(i), Addr(file))
		}
	}
	return nil
}
