package unix

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	sys "golang.org/x/sys/unix"

	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/proto"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// siocunixfile is SIOCUNIXFILE of include/uapi/linux/un.h (Linux 4.10).
const siocunixfile = 0x89e0

// bound is the file that a socket is bound to, while it is looked for by its
// name.
type bound struct {
	look *look
	name string
	file *fd.FD // opened with O_PATH
	st   sys.Stat_t
	link string // where the file is now
	root string // root directory of the task
	base *fd.FD // directory that paths of the kernel's begin at
}

// address returns where the socket is bound, once it is sure that binding
// another one there leads to the same.
func (l *look) address() (address, error) {
	a := address{name: l.u.Name}
	if !isPath(a.name) {
		return a, nil
	}
	file, err := l.boundTo()
	if err != nil {
		return a, l.fail(err)
	}
	b := &bound{look: l, name: string(a.name), file: file}
	defer b.file.Close()
	if err := b.inspect(); err != nil {
		return a, err
	}
	if err := b.roots(); err != nil {
		return a, l.fail(err)
	}
	defer b.base.Close()
	a.perms = &sk_unix.FilePermsEntry{Mode: proto.Uint32(b.st.Mode), Uid: proto.Uint32(b.st.Uid), Gid: proto.Uint32(b.st.Gid)}
	if b.st.Nlink == 0 {
		a.deleted = true
		return a, nil
	}
	leads := false
	if a.name[0] != '/' {
		a.dir, leads, err = b.directory()
	} else {
		a.root, leads, err = b.absolute()
	}
	if err != nil || leads && b.st.Nlink == 1 {
		return a, err
	}
	a.file, err = b.elsewhere(a.dir, leads)
	return a, err
}

// elsewhere returns where the file is, if it was renamed, and its other names,
// if it has several. Those are looked for beside it, where it was bound, and where
// the task works.
func (b *bound) elsewhere(dir string, leads bool) (*extra.SocketFile, error) {
	same, err := b.leads(b.base.Int(), b.link)
	// The name that the kernel knows may be gone, while the file has others.
	gone := !same && b.st.Nlink > 0 && strings.HasSuffix(b.link, deletedMark)
	switch {
	case err != nil:
		return nil, b.look.fail(err)
	case !same && !gone:
		return nil, b.moved()
	case b.st.Nlink == 1 && leads:
		return nil, nil
	}
	f := &extra.SocketFile{}
	if same {
		f.Path = &b.link
	}
	if err := b.findNames(f, dir); err != nil {
		return nil, err
	}
	if n := len(f.Links); f.Path == nil && n > 0 {
		f.Path, f.Links = &f.Links[0], f.Links[1:]
	}
	names := len(f.Links)
	if f.Path != nil {
		names++
	}
	if uint64(names) != uint64(b.st.Nlink) {
		return nil, b.look.refuse("the file it is bound to, %q, has %d names (hard links), of which %d were found; remove the others", b.name, b.st.Nlink, names)
	}
	return f, nil
}

// deletedMark is what the kernel puts behind a path that is no more.
const deletedMark = " (deleted)"

// findNames adds the names of the file that are beside its path, where it was
// bound, and where the task works.
func (b *bound) findNames(f *extra.SocketFile, dir string) error {
	cwd, err := b.cwd()
	if err != nil {
		return b.look.fail(err)
	}
	dirs := []string{filepath.Dir(b.link)}
	for _, at := range []string{filepath.Dir(b.name), dir, cwd} {
		if at != "" && at[0] == '/' && !slices.Contains(dirs, at) {
			dirs = append(dirs, at)
		}
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, sys.ENOENT) {
			return b.look.fail(fmt.Errorf("look for its other names: %w", err))
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if e.Type() != os.ModeSocket || path == b.link {
				continue
			}
			if same, err := b.leads(b.base.Int(), path); err != nil {
				return b.look.fail(err)
			} else if same {
				f.Links = append(f.Links, path)
			}
		}
	}
	return nil
}

// inspect refuses files of which a new one would not be the same.
func (b *bound) inspect() error {
	if err := sys.Fstat(b.file.Int(), &b.st); err != nil {
		return b.look.fail(fmt.Errorf("look at the file it is bound to: %w", err))
	}
	self := fmt.Sprintf("/proc/self/fd/%d", b.file.Int())
	var err error
	if b.link, err = os.Readlink(self); err != nil {
		return b.look.fail(fmt.Errorf("ask for the path of the file it is bound to: %w", err))
	}
	_, err = sys.Getxattr(self, "system.posix_acl_access", nil)
	if err != nil && !errors.Is(err, sys.ENODATA) && !errors.Is(err, sys.EOPNOTSUPP) {
		return b.look.fail(fmt.Errorf("has the file it is bound to an access control list? getxattr: %w", err))
	}
	if err == nil {
		return b.look.refuse("the file it is bound to, %q, has an access control list, which isn't supported yet; remove it (setfacl -b)", b.name)
	}
	name, err := attribute(self)
	if err != nil {
		return b.look.fail(fmt.Errorf("has the file it is bound to extended attributes? listxattr: %w", err))
	}
	if name != "" {
		return b.look.refuse("the file it is bound to, %q, has an extended attribute, %s, which isn't supported yet; remove it (setfattr -x)", b.name, name)
	}
	return nil
}

// attribute returns the name of an extended attribute that a new file would not
// have: a label (security.*) it gets by the system's rules.
func attribute(path string) (string, error) {
	n, err := sys.Listxattr(path, nil)
	if errors.Is(err, sys.EOPNOTSUPP) || err == nil && n == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	names := make([]byte, n)
	if n, err = sys.Listxattr(path, names); err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "user.") {
			return name, nil
		}
	}
	return "", nil
}

// roots finds the directories that names begin at. What the kernel tells as a
// path is below the engine's root, or below the task's if that is another
// mount namespace's.
func (b *bound) roots() error {
	task := b.look.file.Task.Dir
	var err error
	if b.root, err = task.Link("root"); err != nil {
		return err
	}
	n := -1
	if b.root == "/" {
		n, err = task.Open("root", sys.O_PATH|sys.O_DIRECTORY|sys.O_CLOEXEC)
	} else {
		n, err = sys.Open("/", sys.O_PATH|sys.O_DIRECTORY|sys.O_CLOEXEC, 0)
	}
	if err != nil {
		return fmt.Errorf("open the root directory: %w", err)
	}
	b.base = fd.New(n)
	return nil
}

// absolute tells whether an absolute name leads to the file, and below which
// root directory, "" for the engine's: a service may have bound the socket
// before it shut itself in (chroot(2)).
func (b *bound) absolute() (string, bool, error) {
	n, err := b.look.file.Task.Dir.Open("root", sys.O_PATH|sys.O_DIRECTORY|sys.O_CLOEXEC)
	if err != nil {
		return "", false, b.look.fail(err)
	}
	defer sys.Close(n)
	same, err := b.leads(n, b.name)
	if b.root == "/" || err != nil {
		return "", same, b.look.fail(err)
	}
	if same {
		return b.root, true, nil
	}
	same, err = b.leads(b.base.Int(), b.name)
	return "", same, b.look.fail(err)
}

// directory returns a directory in which a relative name leads to the file:
// mostly where the socket was bound, else one that does as well.
func (b *bound) directory() (string, bool, error) {
	var try []string
	if dir, ok := strings.CutSuffix(b.link, "/"+b.name); ok {
		try = append(try, max(dir, "/"))
	}
	cwd, err := b.cwd()
	if err != nil {
		return "", false, b.look.fail(err)
	}
	if cwd != "" {
		try = append(try, cwd)
	}
	try = append(try, filepath.Dir(b.link))
	for _, dir := range try {
		same, err := b.leads(b.base.Int(), dir+"/"+b.name)
		if err != nil {
			return "", false, b.look.fail(err)
		}
		if same && dir[0] == '/' {
			return dir, true, nil
		}
	}
	return "", false, nil
}

// cwd returns the task's working directory, "" if there is none: its first thread
// has ended.
func (b *bound) cwd() (string, error) {
	cwd, err := b.look.file.Task.Dir.Link("cwd")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, proc.ErrGone) {
		return "", nil
	}
	return cwd, err
}

// leads tells whether a path leads to the file. bind(2) follows no link at its
// end.
func (b *bound) leads(root int, path string) (bool, error) {
	how := &sys.OpenHow{Flags: sys.O_PATH | sys.O_NOFOLLOW | sys.O_CLOEXEC, Resolve: sys.RESOLVE_IN_ROOT}
	n, err := sys.Openat2(root, path, how)
	if errors.Is(err, sys.ENOENT) || errors.Is(err, sys.ENOTDIR) || errors.Is(err, sys.ELOOP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %q: %w", path, err)
	}
	defer sys.Close(n)
	var st sys.Stat_t
	if err := sys.Fstat(n, &st); err != nil {
		return false, fmt.Errorf("look at %q: %w", path, err)
	}
	return st.Dev == b.st.Dev && st.Ino == b.st.Ino, nil
}

func (b *bound) moved() error {
	return b.look.refuse("it is bound to %q, and that name doesn't lead to its file: that is at %q, hidden by another mount, which isn't supported yet; let the service make its socket anew", b.name, b.link)
}

// owns tells whether any socket is bound to the file that this one, which is
// connected, has its name of: if it isn't the listener, then this one. A
// datagram socket can't be connected to it, and is told why.
func (l *look) owns() (bool, error) {
	file, err := l.boundTo()
	if err != nil {
		return false, err
	}
	defer file.Close()
	probe, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_NONBLOCK|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("make a socket to look whether %s is in use: %w", nameString(l.u.Name), err)
	}
	defer sys.Close(probe)
	switch err := linux.Connect(probe, reachable(file.Int())); {
	case errors.Is(err, sys.EPROTOTYPE):
		return true, nil
	case errors.Is(err, sys.ECONNREFUSED):
		return false, nil
	default:
		return false, fmt.Errorf("look whether %s is in use: %w", nameString(l.u.Name), err)
	}
}
