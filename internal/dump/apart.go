package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// A thread may leave what its process shares (unshare(2), setns(2)), and a
// process may be set to have its children in other namespaces than its own.
// Images have no place for either, so both are refused by name.

// left are the tables that a thread can leave. The kernel lets no thread leave
// the memory or the handlers of its process.
var left = []struct {
	typ  int // KCMP_*
	what string
}{
	{linux.KCMP_FILES, "a table of descriptors"},
	{linux.KCMP_FS, "a working directory, root and umask"},
}

// leftNamespaces are those that a thread can leave alone. For a user or time
// namespace the process must have one thread only, and for a mount namespace
// a thread leaves the directories, too.
var leftNamespaces = []string{"net", "ipc", "uts", "cgroup"}

// forChildren are namespaces that only children will be in.
var forChildren = []string{"pid", "time"}

// apart refuses threads that have something of their own which all threads of
// a restored process share. With alike, what is true of the leader is true of
// all.
func (d *dump) apart(t *scan.Task, own map[string]string, alike bool) error {
	threads := t.Threads
	if alike {
		threads = threads[:1]
	}
	errs := make([]error, len(threads))
	err := d.parallel(len(threads), func(i int) error {
		th := threads[i]
		errs[i] = sameForChildren(t, th.TID, own)
		if errs[i] == nil && th != t.Leader() {
			errs[i] = withLeader(t, th, own)
		}
		return nil
	})
	for _, e := range errs {
		if e != nil {
			return e // that of the first thread
		}
	}
	return err
}

// withLeader refuses a thread that has left what its leader has.
func withLeader(t *scan.Task, th *scan.Thread, own map[string]string) error {
	for _, o := range left {
		r, err := linux.Kcmp(t.Via(), int(th.TID), o.typ, 0, 0)
		if err != nil {
			return fmt.Errorf("compare with thread %d: %w", th.TID, err)
		}
		if r != 0 {
			return kind.Unsupported(t, "its thread %d has %s of its own (unshare(2) in a thread), which cannot be saved", th.TID, o.what)
		}
	}
	for _, ns := range leftNamespaces {
		its, err := threadNS(t, th.TID, ns)
		if err != nil {
			return err
		}
		if its != own[ns] {
			return kind.Unsupported(t, "its thread %d is in a %s namespace of its own (%s), which cannot be saved", th.TID, ns, its)
		}
	}
	return sameLogin(t, th)
}

// sameLogin refuses a thread that is accounted to another user than its leader,
// see proc_pid_loginuid(5).
func sameLogin(t *scan.Task, th *scan.Thread) error {
	its, err := t.Dir.ReadFile(fmt.Sprintf("task/%d/loginuid", th.TID))
	if errors.Is(err, unix.ENOENT) {
		return nil // no audit system
	}
	if err != nil {
		return err
	}
	leaders, err := t.Dir.ReadFile("loginuid")
	if err == nil && string(its) != string(leaders) {
		err = kind.Unsupported(t, "its thread %d has a login uid of its own (%s, its first thread has %s: loginuid in /proc), which cannot be saved; let the whole process have it", th.TID, its, leaders)
	}
	return err
}

// sameForChildren compares the namespaces that a thread's children will be in
// with its own. The kernel shows no PID namespace until it has its first
// process.
func sameForChildren(t *scan.Task, tid proc.TID, own map[string]string) error {
	for _, ns := range forChildren {
		its, err := threadNS(t, tid, ns+"_for_children")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err != nil || its != own[ns] {
			return kind.Unsupported(t, "thread %d has set another %s namespace for its children (%s), which cannot be saved", tid, ns, its)
		}
	}
	return nil
}

func threadNS(t *scan.Task, tid proc.TID, ns string) (string, error) {
	return t.Dir.Link(fmt.Sprintf("task/%d/ns/%s", tid, ns))
}

// usualExit refuses a child that says something else than SIGCHLD when it
// ends: images don't say, and its parent would wait for it in vain or get a
// signal that it does not expect.
func usualExit(t *scan.Task) error {
	if s := t.Stat.ExitSignal; t.Parent != nil && s != int32(unix.SIGCHLD) {
		return kind.Unsupported(t, "its parent hears of its end by signal %d, not SIGCHLD (clone(2)), which cannot be saved", s)
	}
	return nil
}
