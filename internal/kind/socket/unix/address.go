package unix

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	sk_unix "glis.dev/glis/image/criu/sk-unix"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/linux"
)

const (
	family  = 2   // bytes of sun_family
	maxName = 108 // bytes of sun_path (UNIX_PATH_MAX)
)

// nameString returns an address as people write it: a path, "@name" for an
// abstract one, "unnamed".
func nameString(name []byte) string {
	switch {
	case len(name) == 0:
		return "unnamed"
	case name[0] == 0:
		return strconv.Quote("@" + string(name[1:]))
	}
	return strconv.Quote(string(name))
}

// isPath tells whether a name is one in the file system.
func isPath(name []byte) bool { return len(name) > 0 && name[0] != 0 }

// peerName returns the name of a socket's peer, also of one that is closed;
// none if it has no name or there is no peer. See getpeername(2).
func peerName(fd int) ([]byte, error) {
	var buf [family + maxName + 1]byte
	n, err := linux.Getpeername(fd, buf[:])
	switch {
	case err == sys.ENOTCONN:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("getpeername: %w", err)
	}
	return cutName(buf[:], n), nil
}

// cutName returns the name in an address of n bytes, nil if there is none.
func cutName(buf []byte, n int) []byte {
	name := buf[min(family, n):min(n, len(buf))]
	if len(name) == 0 {
		return nil
	}
	if isPath(name) {
		name = bytes.TrimRight(name, "\x00") // of a path the kernel counts its end
	}
	return bytes.Clone(name)
}

// address is where a socket is bound.
type address struct {
	name  []byte // without the NUL that ends a path; empty if it isn't bound
	dir   string // directory that a relative path begins at
	root  string // directory that an absolute path begins at, "" for "/"
	perms *sk_unix.FilePermsEntry
	file  *extra.SocketFile // where its file is, if the name doesn't lead there

	deleted  bool // its file has no name any more
	accepted bool // the name is another socket's
}

// files are the paths of the file that is made when a socket is bound to it.
func (a *address) files() []string {
	switch {
	case !isPath(a.name) || a.deleted || a.accepted:
		return nil
	case a.file != nil:
		return append([]string{a.file.GetPath()}, a.file.GetLinks()...)
	}
	return []string{string(a.name)}
}

// String is the address for messages.
func (a *address) String() string {
	s := nameString(a.name)
	if a.dir != "" {
		s += " in " + strconv.Quote(a.dir)
	}
	if a.root != "" {
		s += " below the root " + strconv.Quote(a.root)
	}
	return s
}

// encoded is the name as criu's images have it: of a path they keep the NUL.
func (a *address) encoded() []byte {
	if isPath(a.name) {
		return append(bytes.Clone(a.name), 0)
	}
	return append([]byte{}, a.name...)
}

// sockaddr is the address as bind(2) takes it.
func (a *address) sockaddr() []byte {
	return append(binary.NativeEndian.AppendUint16(nil, sys.AF_UNIX), a.name...)
}

// addressOf is the inverse of encoded, for an entry from an image.
func addressOf(u *sk_unix.UnixSkEntry, x *extra.SocketEntry) (address, error) {
	a := address{
		name: u.GetName(), dir: u.GetNameDir(), root: x.GetRoot(), perms: u.GetFilePerms(), file: x.GetFile(),
		deleted: u.GetDeleted(), accepted: x.GetAccepted(),
	}
	if isPath(a.name) {
		a.name = bytes.TrimRight(a.name, "\x00")
	}
	switch {
	case len(a.name) == 0:
		return address{}, nil
	case len(a.name) > maxName:
		return a, fmt.Errorf("its name has %d bytes, more than %d", len(a.name), maxName)
	case !isPath(a.name):
		return address{name: a.name, accepted: a.accepted}, nil
	case bytes.IndexByte(a.name, 0) >= 0:
		return a, fmt.Errorf("%s can't be a path", nameString(a.name))
	case a.deleted || a.accepted:
		a.dir, a.root, a.file = "", "", nil
		return a, nil
	case a.file != nil:
		a.dir, a.root = "", ""
		return a, checkFile(a.file)
	case a.name[0] == '/':
		a.dir = ""
	case a.dir == "":
		return a, fmt.Errorf("it is bound to %s and the directory isn't told", nameString(a.name))
	}
	return a, checkPaths(a.dir, a.root)
}

// checkPaths makes sure that paths from an image are absolute; "" is none.
func checkPaths(paths ...string) error {
	for _, d := range paths {
		if d != "" && (d[0] != '/' || strings.IndexByte(d, 0) >= 0 || len(d) >= sys.PathMax) {
			return fmt.Errorf("%.80q is no absolute path", d)
		}
	}
	return nil
}

// checkFile checks where a socket's file is.
func checkFile(f *extra.SocketFile) error {
	for _, p := range append([]string{f.GetPath()}, f.GetLinks()...) {
		if p == "" || strings.HasSuffix(p, "/") {
			return fmt.Errorf("%.80q is no absolute path of a file", p)
		}
	}
	return checkPaths(append([]string{f.GetPath()}, f.GetLinks()...)...)
}
