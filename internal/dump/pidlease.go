package dump

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// All pidfds of a process are of one file (Linux 6.9), so a lease on one of them (F_SETLEASE)
// is broken by who opens another: who has it is told, and pidfd_open(2) waits for up to
// lease-break-time (proc_sys_fs(5), 45 s), which no signal ends. Glis needs one of each task.

// leasedPidfd is why a task whose pidfds have a lease is refused.
const leasedPidfd = "a pidfd of it has a lease (F_SETLEASE), which opening another one, as Glis has to, would break, and wait for; let whoever has the lease give it up"

// notLeased has looked for which tasks that is so, which may take 10 ms that the CPUs are idle
// for, and returns what refuses a tree with such a task: to be called before anything of it is
// opened. A lease that is taken only then is met by openPidfd, which does not wait either.
func (d *dump) notLeased() (refuse func() error) {
	tree, _, _ := look(proc.PID(d.opts.Tree))
	if !mayHavePidfd(tree) {
		return func() error { return nil }
	}
	leased := make(chan bool, 1)
	go func() { leased <- pidfdsLeased() }()
	return func() error {
		if !<-leased {
			return nil
		}
		for _, of := range leasedProcesses() {
			if slices.Contains(tree, of) {
				return kind.Unsupported(&scan.Task{PID: of}, leasedPidfd)
			}
		}
		return nil
	}
}

// fewLinks is how many descriptors are looked at in less time than it takes to read
// /proc/locks, which has the kernel wait some 10 ms for all CPUs.
const fewLinks = 1000

// mayHavePidfd tells whether a process of a tree has a pidfd, or there are too many
// descriptors to look at. Nobody else is thought of who may have the lease.
func mayHavePidfd(tree []proc.PID) bool {
	n := 0
	for _, pid := range tree {
		dir := fmt.Sprintf("/proc/%d/fd/", pid)
		if st, err := os.Stat(dir); err == nil && st.Size() > fewLinks { // since Linux 6.2 it tells how many
			return true
		}
		all, _ := os.ReadDir(dir)
		for _, e := range all {
			if n++; n > fewLinks {
				return true
			}
			to, _ := os.Readlink(dir + e.Name())
			if to == "anon_inode:[pidfd]" || strings.HasPrefix(to, "pidfd:[") {
				return true
			}
		}
	}
	return false
}

// pidfdsLeased tells whether some pidfd has a lease, whose.
func pidfdsLeased() bool {
	all, err := fd.ReadFile("/proc/locks")
	if err != nil || !strings.Contains(string(all), " LEASE ") {
		return false
	}
	own, err := fd.Process(os.Getpid())
	if err != nil {
		return true // may be
	}
	defer own.Close()
	var st unix.Stat_t
	if err := unix.Fstat(own.Int(), &st); err != nil {
		return true
	}
	inode := fmt.Sprintf(" %02x:%02x:", unix.Major(st.Dev), unix.Minor(st.Dev))
	for line := range strings.Lines(string(all)) {
		if strings.Contains(line, " LEASE ") && strings.Contains(line, inode) {
			return true
		}
	}
	return false
}

// leasedProcesses are those of whose pidfds one has a lease.
func leasedProcesses() (found []proc.PID) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		dir, err := proc.Open(proc.PID(pid))
		if err != nil {
			continue // it has ended
		}
		fds, _ := dir.FDs()
		for _, n := range fds {
			info, err := dir.FDInfo(n)
			if err == nil && info.Pidfd != nil && info.Leased() {
				found = append(found, proc.PID(info.Pidfd.PID))
			}
		}
		dir.Close()
	}
	return found
}

// openPidfd opens a pidfd of a task.
func openPidfd(t *scan.Task) error {
	var err error
	switch t.Pidfd, err = fd.Process(int(t.PID)); {
	case err == nil:
		return nil
	case errors.Is(err, unix.EAGAIN):
		return kind.Unsupported(t, leasedPidfd)
	}
	return fmt.Errorf("%v: open a pidfd: %w", t, gone(err))
}
