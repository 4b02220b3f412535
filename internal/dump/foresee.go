package dump

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// foresee has kinds refuse what they can before anything is frozen.
func (d *dump) foresee() error {
	if !d.anySocket {
		return nil
	}
	for _, k := range d.kinds.Files {
		if s, ok := k.(kind.Foreseer); ok {
			if err := s.Foresee(d.env, d.findSockets); err != nil {
				return err
			}
		}
	}
	return nil
}

// findSockets implements kind.Find. Tasks and descriptors that are gone meanwhile
// are left out.
func (d *dump) findSockets(inodes map[uint64]bool, f func(*scan.File) error) error {
	found := map[uint64]bool{}
	pids, _, _ := look(proc.PID(d.opts.Tree))
	for _, pid := range pids {
		if err := d.socketsOf(pid, inodes, found, f); err != nil || len(found) == len(inodes) {
			return err
		}
	}
	return nil
}

// socketsOf does so for one task, and notes which it has found: by the kernel's memory, if
// that is read, which takes a microsecond for each descriptor instead of five.
func (d *dump) socketsOf(pid proc.PID, inodes, found map[uint64]bool, f func(*scan.File) error) error {
	task := runner{pid: pid}
	defer task.close()
	use := func(n int32, ino uint64) error {
		if _, asked := inodes[ino]; !asked || found[ino] {
			return nil
		}
		found[ino] = true
		return task.socket(n, ino, f)
	}
	if d.files.sockets != nil && task.look() {
		type asked struct {
			n   int32
			ino uint64
		}
		var some []asked // whoever is shown one may read that memory, too
		err := d.files.sockets.reader.Each(task.task.Pidfd.Int(), func(m sockmem.Socket) error {
			if inodes[m.Ino] {
				some = append(some, asked{m.FD, m.Ino})
			}
			return nil
		})
		for _, a := range some {
			if err := use(a.n, a.ino); err != nil {
				return err
			}
		}
		if err == nil {
			return nil
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	all, _ := os.ReadDir(dir)
	for _, e := range all {
		link, _ := os.Readlink(dir + "/" + e.Name())
		ino, is := inodeOf(link)
		n, err := strconv.ParseInt(e.Name(), 10, 32)
		if !is || err != nil {
			continue
		}
		if err := use(int32(n), ino); err != nil || len(found) == len(inodes) {
			return err
		}
	}
	return nil
}

// inodeOf returns the inode of a socket, from where its descriptor links to.
func inodeOf(link string) (uint64, bool) {
	text, ok := strings.CutPrefix(link, "socket:[")
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	return n, ok && err == nil
}

// runner is a task that runs, of which sockets are found. The zero value has not been looked at.
type runner struct {
	pid  proc.PID
	task *scan.Task // nil: not looked at yet, or it has ended
	over bool
}

// look opens the task, once for all its sockets; false: it has ended.
func (r *runner) look() bool {
	if r.task != nil || r.over {
		return !r.over
	}
	p, err := fd.Task(int(r.pid))
	if r.over = err != nil; r.over {
		return false
	}
	r.task = &scan.Task{PID: r.pid, Pidfd: p}
	if dir, err := proc.Open(r.pid); err == nil {
		defer dir.Close()
		r.task.Stat, _ = dir.Stat() // for its name
	}
	return true
}

func (r *runner) close() {
	if r.task != nil {
		r.task.Pidfd.Close()
	}
}

// socket calls f with a socket of the task, if that is still there.
func (r *runner) socket(n int32, ino uint64, f func(*scan.File) error) error {
	if !r.look() {
		return nil
	}
	s := &scan.File{Task: r.task, FD: n, Link: fmt.Sprintf("socket:[%d]", ino)}
	s.Stat.Ino, s.Stat.Mode = ino, unix.S_IFSOCK
	return f(s)
}
