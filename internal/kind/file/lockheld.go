package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	lockimg "glis.dev/glis/image/criu/file-lock"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/proc"
)

// notTaken says why a process of the tree can't have its lock again: in whose way it
// is, as far as that can be found out, and what to do.
func notTaken(host proc.PID, e *lockimg.FileLockEntry, err error) error {
	mine := fmt.Sprintf("/proc/%d/fd/%d", host, e.GetFd())
	path, gone := os.Readlink(mine)
	if gone != nil {
		path = "a file that can't be looked at"
	}
	what := fmt.Sprintf("lock %s again (descriptor %d, %s)", path, e.GetFd(), lockText(textOf(e)))
	if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w", what, err)
	}
	does := "has it locked"
	if e.GetFlag() == lockLease {
		does = "has it open"
	}
	return fmt.Errorf("%s: %s %s; let that end, then restore again: %w", what, inTheWay(mine, host, e), does, err)
}

// notTakenHere is notTaken for a descriptor of the engine's.
func notTakenHere(own *fd.FD, e *lockimg.FileLockEntry, err error) error {
	by := &lockimg.FileLockEntry{Flag: e.Flag, Type: e.Type, Start: e.Start, Len: e.Len, Fd: proto.Int32(int32(own.Int()))}
	return notTaken(proc.PID(os.Getpid()), by, err)
}

// textOf is a lock as /proc has it.
func textOf(e *lockimg.FileLockEntry) *proc.Lock {
	l := &proc.Lock{Start: e.GetStart(), End: proc.LockEOF}
	for name, sort := range lockKinds {
		if sort == e.GetFlag() {
			l.Kind = name
		}
	}
	for name, typ := range lockTypes {
		if typ == e.GetType() {
			l.Access = name
		}
	}
	if e.GetLen() > 0 && e.GetStart() <= proc.LockEOF-e.GetLen() {
		l.End = e.GetStart() + e.GetLen() - 1
	}
	return l
}

// inTheWay says which process has the file that mine leads to in a way that a lock can't
// be with: "process 12 (sqlite3)". Who took a lock may have ended, and of one that
// belongs to an open file nobody tells it, so whoever has it is looked for.
func inTheWay(mine string, host proc.PID, e *lockimg.FileLockEntry) string {
	var own unix.Stat_t
	if unix.Stat(mine, &own) != nil {
		return "another process"
	}
	want := textOf(e)
	for _, where := range append(lockers(own.Ino), "/proc/[0-9]*") {
		fds, _ := filepath.Glob(where + "/fd/*") // who can't be looked at isn't found
		for _, name := range fds {
			var st unix.Stat_t
			if unix.Stat(name, &st) != nil || st.Dev != own.Dev || st.Ino != own.Ino {
				continue
			}
			pid, n := numbersOf(name)
			if pid == os.Getpid() || pid == int(host) {
				continue
			}
			if e.GetFlag() == lockLease || bars(proc.PID(pid), n, want) {
				comm, _ := fd.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
				return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(comm)))
			}
		}
	}
	return "a process that is not visible here"
}

// lockers are the directories in /proc of who has locked a file with this inode number, or
// another one: who is likely to be in the way, so that not all of a machine's descriptors
// need be looked at. See proc_locks(5).
func lockers(ino uint64) (dirs []string) {
	all, _ := fd.ReadFile("/proc/locks")
	for line := range strings.Lines(string(all)) {
		f := strings.Fields(line)
		at := slices.IndexFunc(f, func(w string) bool { return strings.HasSuffix(w, fmt.Sprintf(":%d", ino)) })
		if at < 1 {
			continue
		}
		if pid, err := strconv.Atoi(f[at-1]); err == nil && pid > 0 {
			dirs = append(dirs, fmt.Sprintf("/proc/%d", pid))
		}
	}
	return dirs
}

// numbersOf returns the numbers in /proc/PID/fd/N.
func numbersOf(name string) (pid, fd int) {
	part := strings.Split(name, "/")
	pid, _ = strconv.Atoi(part[2]) // as they were looked for they are numbers
	fd, _ = strconv.Atoi(part[4])
	return pid, fd
}

// bars tells whether a process has a lock, by a descriptor, that one like want can't be with.
func bars(pid proc.PID, n int, want *proc.Lock) bool {
	d, err := proc.Open(pid)
	if err != nil {
		return false
	}
	defer d.Close() //nolint:errcheck // it was only read from
	info, err := d.FDInfo(int32(n))
	return err == nil && slices.ContainsFunc(info.Locks, func(l proc.Lock) bool { return conflict(&l, want) })
}

// conflict tells whether the kernel lets two locks of different owners not be at a time.
// Record locks of processes and of open files are of one sort, see fcntl(2).
func conflict(a, b *proc.Lock) bool {
	sort := func(l *proc.Lock) string {
		if l.Kind == "OFDLCK" {
			return "POSIX"
		}
		return l.Kind
	}
	return sort(a) == sort(b) && (a.Access == "WRITE" || b.Access == "WRITE") && a.Start <= b.End && b.Start <= a.End
}
