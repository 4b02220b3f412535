package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// pipeOf makes a pipe and returns its ends and its number.
func pipeOf(t *testing.T) (r, w *os.File, ino uint64) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return r, w, st.Ino
}

// A pipe whose other end is outside, and a file, are replaced by what Glis was
// started with.
func TestInheritFD(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	first, err := os.OpenFile(filepath.Join(dir, "first"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	r, w, ino := pipeOf(t)
	io.WriteString(w, "one\n")
	p := testkit.StartWith(t, dir, &os.ProcAttr{Files: []*os.File{r, first, first}, Sys: &syscall.SysProcAttr{Setsid: true}}, testkit.BuildC(t, "targets/lines.c"), dir)
	p.AwaitAt(t, 0)
	pipe := strconv.FormatUint(ino, 10)
	dump := []string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t)}
	refused(t, e, dump, "its end for writing is held outside", "--external pipe["+pipe+"]")
	testkit.Unharmed(t, p.PID)

	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--external", "pipe["+pipe+"]")
	refused(t, e, []string{"restore", "-d", "-D", img}, "fd[N]:pipe:["+pipe+"]")
	refused(t, e, []string{"restore", "-d", "-D", img, "--inherit-fd", "fd[77]:pipe:[" + pipe + "]"}, "without descriptor 77")
	refused(t, e, []string{"restore", "-d", "-D", img, "--inherit-fd", "fd[1]:pipe:[" + pipe + "]"}, "another sort")

	second, err := os.Create(filepath.Join(dir, "second"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	r, w, _ = pipeOf(t)
	io.WriteString(w, "two\n")
	e.Extra = []*os.File{r, second}
	e.Restore(t, img, "--inherit-fd", fmt.Sprintf("fd[3]:pipe:[%d]", ino), "--inherit-fd", "fd[4]:"+strings.TrimPrefix(first.Name(), "/"))
	testkit.Unharmed(t, p.PID)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
	for name, want := range map[string]string{"first": "one\n", "second": "two\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
}

// echoServer answers every connection's words, and says who is there.
func echoServer(t *testing.T, network, name string) {
	t.Helper()
	l, err := net.ListenUnix(network, &net.UnixAddr{Net: network, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Chmod(name, 0o777); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
}

func answer(c *net.UnixConn) {
	defer c.Close()
	f, err := c.File()
	if err != nil {
		return
	}
	defer f.Close()
	who, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return
	}
	unix.SetNonblock(int(f.Fd()), true)
	for b := make([]byte, 1000); ; {
		n, err := c.Read(b)
		if err != nil || n == 0 {
			return
		}
		fmt.Fprintf(c, "user %d %d: %s, from %q", who.Uid, who.Gid, b[:n], c.RemoteAddr().String())
	}
}

// Clients of services outside of the tree are connected to them again by name:
// datagrams as of syslog and journald, streams as of D-Bus.
func TestExternalUnix(t *testing.T) {
	e := glisOnly(t)
	dir := testkit.NewDir(t)
	at := &net.UnixAddr{Net: "unixgram", Name: filepath.Join(dir, "log")}
	log, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	stream, packets := filepath.Join(dir, "stream"), filepath.Join(dir, "packets")
	echoServer(t, "unix", stream)
	echoServer(t, "unixpacket", packets)
	heard := make(chan int, 1)
	go func() {
		n := 0
		for b := make([]byte, 1000); ; n++ {
			if _, err := log.Read(b); err != nil {
				heard <- n
				return
			}
		}
	}()
	p := testkit.Program{
		Argv:     []string{testkit.BuildC(t, "targets/unixabroad.c"), at.Name, stream, packets},
		DumpArgs: []string{"--ext-unix-sk"}, RestoreArgs: []string{"--ext-unix-sk"},
	}
	testkit.RoundTrip(t, testkit.Engines{Saver: e, Restorer: e}, p)
	log.Close()
	if n := <-heard; n != 3*3*2 {
		t.Errorf("the log has %d lines, want %d", n, 3*3*2)
	}
}

// What can't be connected to again is said before anything is done, and the
// program goes on.
func TestExternalUnixRefused(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	name := filepath.Join(dir, "stream")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mine, own := connectTo(t, l)
	p := testkit.StartWith(t, dir, &os.ProcAttr{Files: []*os.File{mine, mine, mine}, Sys: &syscall.SysProcAttr{Setsid: true}}, testkit.BuildC(t, "targets/lines.c"), dir)
	mine.Close()
	io.WriteString(own, "one\n")
	p.AwaitAt(t, 0)
	if got := make([]byte, 9); !reads(own, got, "one\n") {
		t.Errorf("read %q", got)
	}
	img := testkit.NewDir(t)
	dump := []string{"dump", "-t", strconv.Itoa(p.PID), "-D", img}
	refused(t, e, dump, "is outside of the tree", "--ext-unix-sk", name)
	io.WriteString(own, "unread\n")
	refused(t, e, append(dump, "--ext-unix-sk"), "waits to be read", name)
	testkit.Unharmed(t, p.PID)
	p.Go(t, 0, false)
	p.AwaitAt(t, 1)
	if got := make([]byte, 9); !reads(own, got, "unread\n") {
		t.Errorf("read %q", got)
	}
	e.Save(t, p.PID, img, "--ext-unix-sk")
	refused(t, e, []string{"restore", "-d", "-D", img}, "--ext-unix-sk", name, "--inherit-fd")
	l.Close()
	refused(t, e, []string{"restore", "-d", "-D", img, "--ext-unix-sk"}, "start that service first", name)
	if l, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e.Restore(t, img, "--ext-unix-sk")
	again, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	io.WriteString(again, "three\n")
	p.Go(t, 1, true)
	if got := make([]byte, 9); !reads(again, got, "three\n") {
		t.Errorf("read %q", got)
	}
	p.WaitExit(t, 0)
}

// reads tells whether want comes next.
func reads(r io.Reader, into []byte, want string) bool {
	n, err := io.ReadFull(r, into[:len(want)])
	return err == nil && string(into[:n]) == want
}

// connectTo connects to a listener of our own.
func connectTo(t *testing.T, l *net.UnixListener) (client *os.File, server net.Conn) {
	t.Helper()
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(int(f.Fd()), false)
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); server.Close() })
	return f, server
}

// A pair whose other end is outside comes back as one whose peer has closed, or
// is replaced by a socket that Glis was started with.
func TestInheritSocket(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	theirs, ours, ino := socketPair(t)
	io.WriteString(ours, "one\n")
	p := testkit.StartWith(t, dir, &os.ProcAttr{Files: []*os.File{theirs, theirs, theirs}, Sys: &syscall.SysProcAttr{Setsid: true}}, testkit.BuildC(t, "targets/lines.c"), dir)
	p.AwaitAt(t, 0)
	refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "--ext-unix-sk"}, "has no name to connect to again", "--external unix["+ino+"]")
	theirs.Close()
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--external", "unix["+ino+"]")
	for typ, what := range map[[2]int]string{
		{unix.AF_INET, unix.SOCK_STREAM}: "a socket of AF_INET",
		{unix.AF_UNIX, unix.SOCK_DGRAM}:  "a SOCK_DGRAM, and the program's is a SOCK_STREAM",
		{unix.AF_UNIX, unix.SOCK_STREAM}: "connected to nobody",
	} {
		n, err := unix.Socket(typ[0], typ[1]|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		other := os.NewFile(uintptr(n), "another sort")
		e.Extra = []*os.File{other}
		refused(t, e, []string{"restore", "-D", img, "-d", "--inherit-fd", "fd[3]:socket:[" + ino + "]"}, what, "hand in one like it")
		other.Close()
	}
	second, near, _ := socketPair(t)
	e.Extra = []*os.File{second}
	e.Restore(t, img, "--inherit-fd", "fd[3]:socket:["+ino+"]")
	second.Close()
	testkit.Unharmed(t, p.PID)
	io.WriteString(near, "two\n")
	p.Go(t, 0, false)
	if got := make([]byte, 9); !reads(near, got, "two\n") {
		t.Errorf("read %q", got)
	}
	p.AwaitAt(t, 1)
	p.Kill()

	e.Extra = nil
	e.Restore(t, img)
	p.Go(t, 0, true)
	if ws := p.Wait(t); !ws.Signaled() || ws.Signal() != unix.SIGPIPE {
		t.Errorf("ended with %#x, want SIGPIPE, since the peer is closed", uint32(ws))
	}
}

// What a listener of the tree accepted from a client outside has the listener's name, and
// nobody binds to that twice. The client has none to be connected to again.
func TestExternalAccepted(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	for _, name := range []string{filepath.Join(dir, "socket"), "@" + dir} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		listener, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		client, server := connectTo(t, l)
		accepted, err := server.(*net.UnixConn).File()
		if err != nil {
			t.Fatal(err)
		}
		unix.SetNonblock(int(accepted.Fd()), false)
		dir := testkit.NewDir(t)
		var st unix.Stat_t
		mustDo(t, unix.Fstat(int(accepted.Fd()), &st))
		io.WriteString(client, "one\n")
		p := testkit.StartWith(t, dir, &os.ProcAttr{Files: []*os.File{accepted, accepted, accepted, listener}, Sys: &syscall.SysProcAttr{Setsid: true}}, testkit.BuildC(t, "targets/lines.c"), dir)
		p.AwaitAt(t, 0)
		for _, c := range []io.Closer{l, listener, server, accepted} {
			c.Close()
		}
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img, "--external", fmt.Sprintf("unix[%d]", st.Ino))
		e.Restore(t, img)
		again, err := net.Dial("unix", name)
		if err != nil {
			t.Fatal("nobody listens any more:", err)
		}
		again.Close()
		p.Go(t, 0, true)
		if ws := p.Wait(t); !ws.Signaled() || ws.Signal() != unix.SIGPIPE {
			t.Errorf("ended with %#x, want SIGPIPE, since the peer is closed", uint32(ws))
		}
	}
}

func socketPair(t *testing.T) (a, b *os.File, ino string) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "theirs"), os.NewFile(uintptr(fds[1]), "ours")
	t.Cleanup(func() { a.Close(); b.Close() })
	var st unix.Stat_t
	if err := unix.Fstat(fds[0], &st); err != nil {
		t.Fatal(err)
	}
	return a, b, strconv.FormatUint(st.Ino, 10)
}

// nowhere makes a file below a mount that is in no namespace, open for reading.
func nowhere(t *testing.T, content string) (f *os.File, key string) {
	t.Helper()
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	w, err := unix.Openat(root, "input", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f = os.NewFile(uintptr(w), "input")
	t.Cleanup(func() { f.Close() })
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var st unix.Statx_t
	if err := unix.Statx(w, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID|unix.STATX_INO, &st); err != nil {
		t.Fatal(err)
	}
	return f, fmt.Sprintf("file[%x:%d]", st.Mnt_id, st.Ino)
}

// A file that no path leads to is named by its mount and inode, as with criu,
// and another one takes its place.
func TestExternalFile(t *testing.T) {
	e := testkit.FindEngine(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	out, err := os.OpenFile(filepath.Join(dir, "out"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, key := nowhere(t, fmt.Sprintf("%-99s\n%-99s\n", "first", "second"))
	p := testkit.StartWith(t, dir, &os.ProcAttr{Files: []*os.File{in, out, out}, Sys: &syscall.SysProcAttr{Setsid: true}}, testkit.BuildC(t, "targets/lines.c"), dir)
	p.AwaitAt(t, 0)
	if e.Glis {
		refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t)}, "in no mount namespace", "--external '"+key+"'")
		testkit.Unharmed(t, p.PID)
	}
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--external", key)
	if e.Glis {
		refused(t, e, []string{"restore", "-d", "-D", img}, "--inherit-fd 'fd[N]:"+key+"'")
		refused(t, e, []string{"restore", "-d", "-D", img, "--inherit-fd", "fd[77]:" + key}, "without descriptor 77")
		refused(t, e, []string{"restore", "-d", "-D", img, "--inherit-fd", "fd[0]:" + key}, "character device")
	}
	in, _ = nowhere(t, fmt.Sprintf("%-99s\n%-99s\n", "changed", "third"))
	e.Extra = []*os.File{in}
	e.Restore(t, img, "--inherit-fd", "fd[3]:"+key)
	p.Go(t, 0, false)
	p.AwaitAt(t, 1)
	p.Go(t, 1, true)
	p.WaitExit(t, 0)
	got, err := os.ReadFile(out.Name())
	if want := []string{"first", "third"}; err != nil || !slices.Equal(strings.Fields(string(got)), want) {
		t.Errorf("it has copied %q (%v), want %q", strings.Fields(string(got)), err, want)
	}
}
