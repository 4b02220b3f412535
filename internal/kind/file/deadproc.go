package file

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	remap "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// A file or directory of /proc outlives its process, see proc(5): what is read
// there fails then. A restore opens it while a helper has that number.

const procRoot = "/proc/"

// ofProc returns the number of the process that a path in /proc is about, 0 if
// it is none.
func ofProc(name string) uint32 {
	number, _, _ := strings.Cut(strings.TrimPrefix(name, procRoot), "/")
	pid, err := strconv.ParseUint(number, 10, 32)
	if err != nil || pid > maxPID || !strings.HasPrefix(name, procRoot) {
		return 0
	}
	return uint32(pid)
}

// deadProc returns the number of the process whose end deleted a file, 0 if it
// is another file.
func deadProc(f *scan.File) uint32 {
	pid := ofProc(strings.TrimSuffix(f.Link, deletedSuffix))
	var st unix.Stat_t
	if pid == 0 || unix.Stat(procRoot, &st) != nil || st.Dev != f.Stat.Dev {
		return 0
	}
	return pid
}

// again returns a file of /proc by its path, if that leads to it although the kernel
// tells it as deleted. It forgets names below /proc/PID/net whenever somebody looks for
// one again, as who opens the file a second time.
func (k *Regular) again(f *scan.File) (*scan.File, error) {
	name, deleted := strings.CutSuffix(f.Link, deletedSuffix)
	if !deleted || deadProc(f) == 0 {
		return f, nil
	}
	by := *f
	by.Link = name
	st, err := k.statPath(&by)
	switch {
	case err == nil && st.Dev == f.Stat.Dev && st.Ino == f.Stat.Ino:
		return &by, nil
	case err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return f, nil
	}
	return nil, fmt.Errorf("%v: look for it by its path: %w", f, err)
}

// dumpDead notes a file of a process that has ended, and returns the path it
// had.
func dumpDead(env *kind.DumpEnv, f *scan.File, pid uint32) (string, error) {
	if env.Tree.Task(proc.PID(pid)) != nil {
		return "", kind.Unsupported(f, "it is of a process that has ended, and process %d of the tree has that number by now; close it", pid)
	}
	e := &remap.RemapFilePathEntry{OrigId: proto.Uint32(f.ID), RemapId: proto.Uint32(pid), RemapType: remap.RemapType_PROCFS.Enum()}
	return strings.TrimSuffix(f.Link, deletedSuffix), env.Images.Put(image.RemapFile, e, nil)
}

// lateProc refuses a file of /proc of a task of the tree that is not there yet, or
// not any more, when a restore opens it.
func lateProc(env *kind.DumpEnv, f *scan.File) error {
	pid := ofProc(f.Link)
	if pid == 0 {
		return nil
	}
	t := env.Tree.Task(proc.PID(pid))
	var st unix.Stat_t
	if t == nil || unix.Stat(procRoot, &st) != nil || st.Dev != f.Stat.Dev {
		return nil
	}
	if _, ok := infoEntry(f.Link); ok && !t.Zombie {
		return nil
	}
	if dir := path.Base(path.Dir(f.Link)); dir == "fd" || dir == "fdinfo" {
		return kind.Unsupported(f, "it is about a descriptor of %v, which may not be there when a restore opens this; close it", t)
	}
	if !t.Zombie {
		return nil
	}
	n, err := unix.Open(f.Link, int(f.Flags&(unix.O_ACCMODE|unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW))|unix.O_CLOEXEC, 0)
	if err != nil {
		return kind.Unsupported(f, "it is of a process that has ended (a zombie), and nobody can open it again (%v); close it, or let the parent of process %d wait for it", err, pid)
	}
	return unix.Close(n)
}

// aheadNode is a file of /proc that is opened before what it is about is as it was.
type aheadNode struct {
	*regularNode
	hold *fd.FD
}

// Independent implements plan.Independent.
func (*aheadNode) Independent() bool { return false }

// Held implements plan.Stuffed, so that Prepare is called for what is no
// descriptor, too.
func (*aheadNode) Held() []plan.ID { return []plan.ID{} }

// Stuff implements plan.Stuffed.
func (*aheadNode) Stuff(context.Context, *plan.Env) error { return nil }

// Create implements plan.Node.
func (n *aheadNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	if n.hold == nil {
		return nil, fmt.Errorf("%s: what it is about has ended before it was opened", n.name)
	}
	num, err := unix.FcntlInt(uintptr(n.hold.Int()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return fd.New(num), nil
}

// Drop implements plan.Dropper.
func (n *aheadNode) Drop() {
	if n.hold != nil {
		n.hold.Close()
		n.hold = nil
	}
}

// deadNode is a file of /proc whose process is to have ended.
type deadNode struct{ aheadNode }

// Check implements plan.Checked.
func (n *deadNode) Check(*plan.CheckEnv) error {
	if err := n.checkNotices(); err != nil {
		return err
	}
	if err := unix.Kill(int(n.remap.dead), 0); !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("file %#x, %s: its process had ended, and another has its number now; end that, or restore in another PID namespace", n.id, n.name)
	}
	return nil
}

// Brief implements plan.Brief: nobody may enter a directory of a process that
// has ended.
func (*deadNode) Brief() {}

// Prepare implements plan.Prepared.
func (n *deadNode) Prepare(ctx context.Context, env *plan.Env, _ []plan.Node) (err error) {
	if n.hold != nil {
		return nil
	}
	if err = env.Alive(ctx, n.remap.dead); err == nil {
		n.hold, err = n.openBy(env, n.name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return nil
}
