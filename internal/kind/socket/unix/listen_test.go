package unix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// socket makes one socket.
func (s *sockets) socket(typ int) int {
	s.t.Helper()
	n, err := sys.Socket(sys.AF_UNIX, typ|sys.SOCK_CLOEXEC, 0)
	s.must(err)
	return s.own(n)
}

// bound makes a socket with a name.
func (s *sockets) bound(typ int, name string) int {
	s.t.Helper()
	n := s.socket(typ)
	s.must(linux.Bind(n, (&address{name: []byte(name)}).sockaddr()))
	return n
}

// named is what can be seen of a socket with a name.
type named struct {
	Seen    seen
	Name    string
	Accepts int
	Backlog uint32
	File    string
	Groups  string
	Peer    sys.Ucred
	UID     uint32
	Mode    uint32
}

func lookNamed(t testing.TB, n int) named {
	t.Helper()
	out := named{Seen: look1(t, n)}
	var st sys.Stat_t
	if err := sys.Fstat(n, &st); err != nil {
		t.Fatal(err)
	}
	out.UID, out.Mode = st.Uid, st.Mode
	u, err := new(picture).get(uint32(st.Ino))
	if err != nil {
		t.Fatal(err)
	}
	out.Name = string(u.Name)
	out.Accepts, _ = sys.GetsockoptInt(n, sys.SOL_SOCKET, sys.SO_ACCEPTCONN)
	if out.Accepts == 1 {
		out.Backlog = u.WQueue
		who, err := sys.GetsockoptUcred(n, sys.SOL_SOCKET, sys.SO_PEERCRED)
		if err != nil {
			t.Fatal(err)
		}
		out.Peer = *who
		buf := make([]byte, 400)
		got, err := linux.Getsockopt(n, sys.SOL_SOCKET, sys.SO_PEERGROUPS, buf)
		out.Groups = fmt.Sprint(buf[:got], err)
	}
	if isPath(u.Name) && sys.Lstat(out.Name, &st) == nil {
		out.File = fmt.Sprintf("%o %d %d", st.Mode, st.Uid, st.Gid)
	}
	return out
}

// sameNamed dumps sockets, closes them, and compares what is restored. It
// returns the new ones.
func sameNamed(t *testing.T, s *sockets) []int {
	t.Helper()
	var before []named
	for _, n := range s.fds {
		before = append(before, lookNamed(t, n))
	}
	in, err := dumpTree(t, scanned(t, s.fds...))
	s.must(err)
	for i, n := range s.fds {
		if d := cmp.Diff(before[i], lookNamed(t, n)); d != "" {
			t.Errorf("the dump changed socket %d: %s", i, d)
		}
	}
	for len(s.fds) > 0 {
		s.close(s.fds[0])
	}
	made, err := restored(t, in)
	s.must(err)
	for i, n := range made {
		if d := cmp.Diff(before[i], lookNamed(t, n)); d != "" {
			t.Errorf("socket %d: %s", i, d)
		}
	}
	return made
}

func TestNames(t *testing.T) {
	types := []int{sys.SOCK_STREAM, sys.SOCK_SEQPACKET, sys.SOCK_DGRAM}
	tests := []struct {
		name string
		at   func(dir string) string
	}{
		{"path", func(dir string) string { return dir + "/s" }},
		{"relative", func(string) string { return "s" }},
		{"relative, in a directory", func(string) string { return "sub/s" }},
		{"relative, up", func(string) string { return "../" + filepath.Base(must(os.Getwd())) + "/s" }},
		{"through a link", func(dir string) string { return dir + "/link/s" }},
		{"abstract", func(string) string { return "\x00glis\x00test\x00" }},
		{"abstract, empty", func(string) string { return "\x00" }},
		{"longest", func(string) string { return "./././././" + strings.Repeat("x", 98) }},
		{"odd", func(dir string) string { return dir + "/@ (deleted)\n" }},
	}
	for _, tt := range tests {
		for _, typ := range types {
			for _, backlog := range []int{-1, 0, 17} {
				if backlog >= 0 && typ == sys.SOCK_DGRAM {
					continue
				}
				t.Run(fmt.Sprint(tt.name, typ, backlog), func(t *testing.T) {
					dir := t.TempDir()
					t.Chdir(dir)
					s := &sockets{t: t}
					s.must(os.Mkdir("sub", 0o755))
					s.must(os.Symlink("sub", "link"))
					n := s.bound(typ, tt.at(dir))
					if backlog >= 0 {
						s.must(sys.Listen(n, backlog))
					}
					sameNamed(t, s)
				})
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAutobound(t *testing.T) {
	s := &sockets{t: t}
	s.bound(sys.SOCK_DGRAM, "")
	sameNamed(t, s)
}

// The file of a socket gets its mode and owner, whatever the umask.
func TestFilePermissions(t *testing.T) {
	dir := t.TempDir()
	s := &sockets{t: t}
	for i, mode := range []uint32{0o777, 0o600, 0o0, 0o4755, 0o640} {
		path := fmt.Sprint(dir, "/", i)
		n := s.bound(sys.SOCK_STREAM, path)
		s.must(sys.Chown(path, 1000+i, 2000+i))
		s.must(sys.Chmod(path, mode))
		s.must(sys.Fchown(n, 3000, 4000))
		s.must(sys.Fchmod(n, 0o750))
		s.must(sys.Listen(n, 3))
	}
	old := sys.Umask(0o27)
	defer sys.Umask(old)
	sameNamed(t, s)
}

// A listener serves clients after the restore, with its options inherited.
func TestListenerServes(t *testing.T) {
	dir := t.TempDir()
	s := &sockets{t: t}
	n := s.bound(sys.SOCK_STREAM, dir+"/s")
	s.set(n, sys.SO_PASSCRED, 1)
	s.must(sys.Listen(n, 3))
	made := sameNamed(t, s)
	c := s.socket(sys.SOCK_STREAM)
	s.must(sys.Connect(c, &sys.SockaddrUnix{Name: dir + "/s"}))
	a, _, err := sys.Accept4(made[0], sys.SOCK_CLOEXEC)
	s.must(err)
	s.own(a)
	if v, err := sys.GetsockoptInt(a, sys.SOL_SOCKET, sys.SO_PASSCRED); err != nil || v != 1 {
		t.Errorf("SO_PASSCRED of what was accepted: %d, %v", v, err)
	}
}

func TestNamedRefused(t *testing.T) {
	tests := []struct {
		name, want string
		make       func(s *sockets, dir string)
	}{
		{"clients", "is outside of the tree", func(s *sockets, dir string) {
			s.must(sys.Listen(s.bound(sys.SOCK_SEQPACKET, dir+"/s"), 5))
			for range 2 {
				s.must(sys.Connect(s.socket(sys.SOCK_SEQPACKET), &sys.SockaddrUnix{Name: dir + "/s"}))
			}
			s.fds = s.fds[:2] // the second client isn't in the tree
		}},
		{"attribute", "extended attribute, trusted.glis", func(s *sockets, dir string) {
			s.bound(sys.SOCK_STREAM, dir+"/s")
			s.must(sys.Setxattr(dir+"/s", "trusted.glis", []byte("x"), 0))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			s := &sockets{t: t}
			tt.make(s, dir)
			_, err := dumpTree(t, scanned(t, s.fds...))
			if !refused(err) || !strings.Contains(fmt.Sprint(err), tt.want) {
				if err != nil {
					testkit.NotShown(t, err.Error())
				}
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// listenerEntry is a listener as images have it.
func listenerEntry(name, dir string) *fdinfo.FileEntry {
	e := entry(1, 10, 0)
	e.Usk.State, e.Usk.Backlog, e.Usk.Name = proto.Uint32(listening), proto.Uint32(5), []byte(name)
	if dir != "" {
		e.Usk.NameDir = &dir
	}
	return e
}

// Attributes that can't be asked for are not none.
func TestAttributesUnknown(t *testing.T) {
	if name, err := attribute(filepath.Join(t.TempDir(), "x")); !errors.Is(err, sys.ENOENT) {
		t.Errorf("got %q, %v", name, err)
	}
}

func TestNameTaken(t *testing.T) {
	tests := []struct {
		name, want string
		make       func(s *sockets, path string)
	}{
		{"live listener", "in use by process " + fmt.Sprint(os.Getpid()) + " (", func(s *sockets, path string) { s.must(sys.Listen(s.bound(sys.SOCK_STREAM, path), 1)) }},
		{"live datagram socket", "in use by process " + fmt.Sprint(os.Getpid()) + " (", func(s *sockets, path string) { s.bound(sys.SOCK_DGRAM, path) }},
		{"file", "no socket", func(s *sockets, path string) { s.must(os.WriteFile(path, nil, 0o600)) }},
		{"link", "no socket", func(s *sockets, path string) { s.must(os.Symlink("nowhere", path)) }},
		{"no directory", "directory is missing", func(s *sockets, path string) { s.must(os.Remove(filepath.Dir(path))) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			s := &sockets{t: t}
			s.must(os.Mkdir(dir, 0o755))
			tt.make(s, dir+"/s")
			_, err := restored(t, images{image.Files: {{Message: listenerEntry(dir+"/s\x00", "")}}})
			if !strings.Contains(fmt.Sprint(err), tt.want) || !strings.Contains(fmt.Sprint(err), dir+"/s") {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestAbstractNameTaken(t *testing.T) {
	s := &sockets{t: t}
	name := fmt.Sprintf("\x00glis-taken-%d", os.Getpid())
	s.must(sys.Listen(s.bound(sys.SOCK_STREAM, name), 1))
	_, err := restored(t, images{image.Files: {{Message: listenerEntry(name, "")}}})
	if want := fmt.Sprintf("process %d (", os.Getpid()); !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

// A socket is bound below the root that its task had.
func TestOtherRoot(t *testing.T) {
	dir := t.TempDir()
	in := images{
		image.Files:   {{Message: listenerEntry("/s\x00", "")}},
		extra.Sockets: {{Message: &extra.SocketEntry{Id: proto.Uint32(1), Root: &dir}}},
	}
	n, err := restored(t, in)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(dir + "/s"); err != nil || st.Mode().Type() != os.ModeSocket {
		t.Errorf("%v, %v", st, err)
	}
	if got := lookNamed(t, n[0]).Name; got != "/s" {
		t.Errorf("its name is %q", got)
	}
	if _, err := os.Lstat("/s"); err == nil {
		t.Error("it is in Glis's own root")
	}
}

func TestAddressOf(t *testing.T) {
	tests := []struct {
		name, dir, root string
		deleted         bool
		want            string // of the error, "" for none
	}{
		{name: ""},
		{name: "\x00"},
		{name: "/run/x\x00"},
		{name: "/run/x"},
		{name: "x\x00", dir: "/run"},
		{name: "/x\x00", root: "/jail"},
		{name: "x\x00", want: "directory isn't told"},
		{name: "x\x00", dir: "run", want: "no absolute path"},
		{name: "x\x00", dir: "/r\x00un", want: "no absolute path"},
		{name: "/x\x00", root: "jail", want: "no absolute path"},
		{name: "/x\x00y\x00", want: "can't be a path"},
		{name: "/" + strings.Repeat("x", maxName), want: "109 bytes"},
		{name: "\x00" + strings.Repeat("x", maxName), want: "109 bytes"},
		{name: "/run/x\x00", deleted: true},
	}
	for _, tt := range tests {
		u := &sk_unix.UnixSkEntry{Name: []byte(tt.name), Deleted: &tt.deleted}
		if tt.dir != "" {
			u.NameDir = &tt.dir
		}
		a, err := addressOf(u, &extra.SocketEntry{Root: &tt.root})
		if tt.want == "" && err != nil || tt.want != "" && !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%q in %q: error %v, want %q", tt.name, tt.dir, err, tt.want)
		}
		if err == nil && isPath(a.name) && string(a.encoded()) != strings.TrimRight(tt.name, "\x00")+"\x00" {
			t.Errorf("%q becomes %q", tt.name, a.encoded())
		}
	}
}

// checkAddress: an image gives no name that is too long.
func checkAddress(name []byte, dir, root string) error {
	u := &sk_unix.UnixSkEntry{Name: name, NameDir: &dir}
	a, err := addressOf(u, &extra.SocketEntry{Root: &root})
	if err == nil && (len(a.name) > maxName || len(a.sockaddr()) > family+maxName) {
		return fmt.Errorf("%q became %q", name, a.name)
	}
	return nil
}
