package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Mqueue is a descriptor of a POSIX message queue, see mq_overview(7). The queue
// and what is in it belong to the IPC namespace, not to any process: they stay
// there when the tree is killed, and are found again by their name.
//
// CRIU knows none of this. For it the queue is the file of that name where
// queues are mounted mostly, which is as good as a descriptor.
type Mqueue struct{ Regular *Regular }

const (
	mqueueRoot = "/dev/mqueue" // where the file system is mounted mostly
	mqueueSize = 80            // of every queue's file: FILENT_SIZE of ipc/mqueue.c

	// What an image says of one.
	queueOpen    = 1
	queueCloexec = 2
)

// Type implements kind.File.
func (Mqueue) Type() fdinfo.FdTypes { return fdinfo.FdTypes_REG }

// Match implements kind.File. Only what looks like one is asked for its file
// system.
func (Mqueue) Match(f *scan.File) bool {
	st := &f.Stat
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != mqueueSize || unix.Major(st.Dev) != 0 || f.FD < 0 || f.Flags&unix.O_PATH != 0 {
		return false
	}
	var fs unix.Statfs_t
	return unix.Statfs(descriptorPath(f), &fs) == nil && fs.Type == linux.MQUEUE_MAGIC
}

func descriptorPath(f *scan.File) string { return fmt.Sprintf("/proc/%d/%s", f.Task.Via(), f.Path()) }

// Dump implements kind.File.
func (k Mqueue) Dump(ctx context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	if f.Stat.Nlink == 0 {
		return nil, kind.Unsupported(f, "it is a message queue whose name was removed (mq_unlink), so that it ends with its last descriptor, and what is in it would be lost; let the program close it, or keep its name")
	}
	if hasLease(env.Tree, f) {
		return nil, kind.Unsupported(f, "it is a message queue that has a lease (F_SETLEASE), which opening the queue, to see what it tells, would break, and wait for; let the program give it up")
	}
	if err := notifies(env.Tree, f); err != nil {
		return nil, err
	}
	if strings.LastIndexByte(f.Link, '/') > 0 {
		return k.Regular.Dump(ctx, env, f) // somebody opened its file
	}
	if err := found(f); err != nil {
		return nil, err
	}
	its := *f
	its.Link, its.Found = mqueueRoot+f.Link, true
	how, err := openedWith(f)
	if err != nil {
		return nil, err
	}
	e, err := k.Regular.Dump(ctx, env, &its)
	if err == nil {
		putVarint(e.GetReg(), regQueue, how)
	}
	return e, err
}

// hasLease tells whether the tree has a lease on a file.
func hasLease(t *scan.Tree, f *scan.File) bool {
	return slices.ContainsFunc(t.Leased, func(o *scan.File) bool {
		return o.Stat.Dev == f.Stat.Dev && o.Stat.Ino == f.Stat.Ino
	})
}

// found makes sure that a queue is found by its name, as it is unless it is of
// another IPC namespace.
func found(f *scan.File) error {
	n, err := linux.MqOpen(strings.TrimPrefix(f.Link, "/"), unix.O_RDONLY)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%v: look for the message queue by its name: mq_open: %w", f, err)
	}
	var st unix.Stat_t
	if err == nil {
		err = errors.Join(unix.Fstat(n, &st), unix.Close(n))
		if err != nil {
			return fmt.Errorf("%v: look at the message queue of its name: %w", f, err)
		}
	}
	if err != nil || st.Dev != f.Stat.Dev || st.Ino != f.Stat.Ino {
		return kind.Unsupported(f, "it is a message queue of another IPC namespace than Glis's, where nobody could open it again; let the program close it")
	}
	return nil
}

// openedWith tells in the form of images that a file is a queue, and whether
// it was opened with O_CLOEXEC: every descriptor of a queue is closed by
// execve(2), but those that asked for it are told so by F_GETFL ever after.
func openedWith(f *scan.File) (how uint64, err error) {
	d, err := f.Borrow()
	if err != nil {
		return 0, err
	}
	flags, err := unix.FcntlInt(uintptr(d.Int()), unix.F_GETFL, 0)
	how = queueOpen
	if flags&unix.O_CLOEXEC != 0 {
		how |= queueCloexec
	}
	return how, errors.Join(err, d.Close())
}

// notified returns who is told of the next message, from what a queue's file says:
// see mq_overview(7).
func notified(b []byte) (int, error) {
	_, after, _ := bytes.Cut(b, []byte("NOTIFY_PID:"))
	first, _, _ := bytes.Cut(after, []byte(" "))
	return strconv.Atoi(strings.TrimSpace(string(first)))
}

// notifies refuses a queue that tells a process of the tree of the next message
// (mq_notify): with which value it does so nobody can ask for.
func notifies(t *scan.Tree, f *scan.File) error {
	b, err := fd.ReadFile(descriptorPath(f))
	if err != nil {
		return fmt.Errorf("%v: read what it tells of the queue: %w", f, err)
	}
	pid, err := notified(b)
	if err != nil {
		return fmt.Errorf("%v: a message queue that tells of itself: %q: %w", f, b, err)
	}
	if its := t.Task(proc.PID(pid)); pid != 0 && its != nil {
		return kind.Unsupported(f, "it is a message queue that tells %v of the next message (mq_notify), which nobody could ask it for as before; let the program wait in mq_receive or poll instead, or take it back (mq_notify with NULL)", its)
	}
	return nil
}

// Plan implements kind.File.
func (k Mqueue) Plan(p *plan.Plan, e *fdinfo.FileEntry) error { return k.Regular.Plan(p, e) }

// mqueueNode is a queue that is opened by its name, as the dump found it.
type mqueueNode struct {
	*regularNode
	cloexec int // O_CLOEXEC if it was asked for
}

// Create implements plan.Node.
func (n *mqueueNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	name := n.name[len(mqueueRoot)+1:]
	num, err := linux.MqOpen(name, int(n.flags)&(unix.O_ACCMODE|unix.O_NONBLOCK)|n.cloexec)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("the POSIX message queue /%s is gone, which belongs to the IPC namespace and does not come back with the tree; restore where it is, or make it again (mq_open) first: %w", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("mq_open /%s: %w", name, err)
	}
	d := fd.New(num)
	if err := n.same(d); err != nil {
		return nil, errors.Join(fmt.Errorf("/%s: %w", name, err), d.Close())
	}
	return n.settle(d)
}

// same makes sure that the queue may be used by those who could use it.
func (n *mqueueNode) same(d *fd.FD) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.Int(), &st); err != nil {
		return err
	}
	if was := n.mode; was != 0 && was != st.Mode {
		return fmt.Errorf("the message queue has mode %#o now, and had %#o at the dump; it is another one", st.Mode&permissions, was&permissions)
	}
	return nil
}

// planQueue is Plan of what Mqueue has dumped.
func planQueue(p *plan.Plan, e *fdinfo.FileEntry, n *regularNode, how uint64) error {
	name, ok := strings.CutPrefix(n.name, mqueueRoot+"/")
	if !ok || name == "" || strings.ContainsRune(name, '/') {
		return entryError(e, "%.80q is no message queue", n.name)
	}
	q := &mqueueNode{regularNode: n}
	if how&queueCloexec != 0 {
		q.cloexec = unix.O_CLOEXEC
	}
	return p.Add(q)
}
