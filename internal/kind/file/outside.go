package file

import (
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
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/options"
)

// A file that no path leads to, since it is below a mount of another mount
// namespace, can be named by its mount and inode (--external file[MNT_ID:INODE]).
// A restore opens another one in its place that the user hands in
// (--inherit-fd fd[N]:file[MNT_ID:INODE]), with its flags, at its position.

// outsideKey is what criu calls such a file, whose mount is a hexadecimal number
// there.
func outsideKey(mount uint64, ino uint64) string { return fmt.Sprintf("file[%x:%d]", mount, ino) }

// outside returns what a file is called that the user has named, "" if he has
// not. fdinfo(5) has mounts as decimal numbers, so these do, too.
func outside(env *kind.DumpEnv, f *scan.File) (string, error) {
	if !slices.ContainsFunc(env.Options.External, func(e options.External) bool { return e.Kind == "file" }) {
		return "", nil
	}
	mount, err := mountOf(f)
	if err != nil {
		return "", err
	}
	key, decimal := outsideKey(mount, f.Stat.Ino), fmt.Sprintf("file[%d:%d]", mount, f.Stat.Ino)
	if slices.ContainsFunc(env.Options.External, func(e options.External) bool { return e.Key() == key || e.Key() == decimal }) {
		return key, nil
	}
	return "", nil
}

// mountOf returns the number of the mount that a file was opened below.
func mountOf(f *scan.File) (uint64, error) {
	n, err := f.Task.Dir.Open(f.Path(), unix.O_PATH)
	if err != nil {
		return 0, err
	}
	defer unix.Close(n) //nolint:errcheck // only looked at
	var x unix.Statx_t
	if err := unix.Statx(n, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x); err != nil {
		return 0, fmt.Errorf("%v: statx: %w", f, err)
	}
	return x.Mnt_id, nil
}

// lost refuses a file that its path does not lead to, and says why.
func lost(f *scan.File, why, what string) error {
	mount, err := mountOf(f)
	if err != nil {
		return err
	}
	in, err := mountedFor(f.Task, mount)
	switch {
	case err != nil:
		return err
	case in == "":
		why = notAttached(mount) + ", and " + why
	case in != ofTree:
		why = fmt.Sprintf("it was opened in another mount namespace (below mount %d, of %s), and %s", mount, in, why)
	}
	return kind.Unsupported(f, "%s; %s, or name it by --external '%s' and hand in another one at the restore (--inherit-fd)", why, what, outsideKey(mount, f.Stat.Ino))
}

// planOutside plans a file that the user hands in.
func (k *Regular) planOutside(p *plan.Plan, e *fdinfo.FileEntry, b base) error {
	in := e.GetReg()
	key := in.GetName()
	mount, ino, err := parseOutside(key)
	if err != nil {
		return entryError(e, "%.80q is no name of a file from outside", key)
	}
	g := p.Inherited(key)
	if g == nil {
		g = p.Inherited(fmt.Sprintf("file[%d:%d]", mount, ino))
	}
	if g == nil {
		return entryError(e, "the file was outside of the checkpoint (--external); hand in another one: --inherit-fd 'fd[N]:%s'", key)
	}
	n := k.node(p, b, in)
	return p.Add(&outsideNode{regularNode: n, given: *g})
}

func parseOutside(key string) (mount, ino uint64, err error) {
	rest, ok := strings.CutPrefix(key, "file[")
	rest, ok2 := strings.CutSuffix(rest, "]")
	a, b, ok3 := strings.Cut(rest, ":")
	if !ok || !ok2 || !ok3 {
		return 0, 0, errors.New("no key of a file")
	}
	mount, err1 := strconv.ParseUint(a, 16, 64)
	ino, err2 := strconv.ParseUint(b, 10, 64)
	return mount, ino, errors.Join(err1, err2)
}

// outsideNode is a file that is opened anew by a descriptor of the engine's.
type outsideNode struct {
	*regularNode
	given options.InheritFD
}

// String implements plan.Node.
func (n *outsideNode) String() string {
	return fmt.Sprintf("file %#x: %s, which is descriptor %d of Glis (--inherit-fd), flags %#o, at %d", n.id, n.given.Key, n.given.FD, n.flags, int64(n.pos))
}

// Independent implements plan.Independent.
func (n *outsideNode) Independent() bool { return false }

// Check implements plan.Checked.
func (n *outsideNode) Check(env *plan.CheckEnv) error {
	var st unix.Stat_t
	if err := unix.Fstat(n.given.FD, &st); err != nil {
		return fmt.Errorf("--inherit-fd fd[%d]:%s: Glis was started without descriptor %d: %w", n.given.FD, n.given.Key, n.given.FD, err)
	}
	if err := n.check(&plan.Env{Options: env.Options}, &st); err != nil {
		return fmt.Errorf("--inherit-fd fd[%d]:%s: %w", n.given.FD, n.given.Key, err)
	}
	return nil
}

// Create implements plan.Node.
func (n *outsideNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	num, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", n.given.FD), n.openFlags()&^unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open descriptor %d of Glis with flags %#o: %w", n.given.FD, n.flags, err)
	}
	return n.settle(fd.New(num))
}
