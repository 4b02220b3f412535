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
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		all, _ := os.ReadDir(dir)
		for _, e := range all {
			link, _ := os.Readlink(dir + "/" + e.Name())
			ino, is := inodeOf(link)
			if _, asked := inodes[ino]; !is || !asked || found[ino] {
				continue
			}
			found[ino] = true
			if err := running(pid, e.Name(), link, ino, f); err != nil || len(found) == len(inodes) {
				return err
			}
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

// running calls f with a socket of a task that runs, if the task is still there.
func running(pid proc.PID, number, link string, ino uint64, f func(*scan.File) error) error {
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return fmt.Errorf("/proc/%d/fd/%s: %w", pid, number, err)
	}
	p, err := fd.Task(int(pid))
	if err != nil {
		return nil //nolint:nilerr // it has ended
	}
	t := &scan.Task{PID: pid, Pidfd: p}
	defer t.Pidfd.Close()
	if dir, err := proc.Open(pid); err == nil {
		defer dir.Close()
		t.Stat, _ = dir.Stat() // for its name
	}
	s := &scan.File{Task: t, FD: int32(n), Link: link}
	s.Stat.Ino, s.Stat.Mode = ino, unix.S_IFSOCK
	return f(s)
}
