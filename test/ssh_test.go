package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"glis.dev/glis/internal/testkit"
)

// A server of SSH with a session on a pseudo-terminal, whose client is elsewhere and
// notices nothing.
func TestSSH(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	p, port := startSSHD(t, dir)
	// What the shell is told is echoed, so it isn't what is waited for.
	s := startSession(t, dir, port, `stty -echo; echo be"gun"; n=0; while read word && [ $word != end ]; do n=$((n+1)); echo "$word $n $(tty)"; done`)
	s.await(t, "begun")
	s.say(t, "before")
	tty, ok := strings.CutPrefix(s.await(t, "before 1 "), "before 1 ")
	if !ok || !strings.HasPrefix(tty, "/dev/pts/") {
		t.Fatalf("the session is on %q", tty)
	}
	for i := range 3 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img, established...)
		s.say(t, "while-away")
		e.Restore(t, img, established...)
		s.await(t, fmt.Sprintf("while-away %d %s", 2*i+2, tty))
		s.say(t, "afterwards")
		s.await(t, fmt.Sprintf("afterwards %d %s", 2*i+3, tty))
	}
	s.say(t, "end")
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("ssh: %v", err)
	}
}

// startSSHD starts a server with keys of its own, for root.
func startSSHD(t *testing.T, dir string) (p *testkit.Proc, port string) {
	t.Helper()
	keygen := testkit.RequireProgram(t, "ssh-keygen", "openssh-client")
	for _, name := range []string{"host", "user"} {
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it keeps those without rights
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	argv := []string{testkit.RequireProgram(t, "sshd", "openssh-server"), "-D", "-E", filepath.Join(dir, "log"), "-f", "/dev/null", "-p", port, "-h", filepath.Join(dir, "host")}
	for _, o := range []string{
		"UsePAM=no", "StrictModes=no", "PidFile=none", "PermitRootLogin=yes", "ListenAddress=127.0.0.1",
		"AuthorizedKeysFile=" + filepath.Join(dir, "user.pub"), "SetEnv=HOME=" + dir,
	} {
		argv = append(argv, "-o", o)
	}
	p = testkit.Start(t, dir, argv...)
	testkit.Await(t, dir, p.PID, "a server of SSH", func() bool {
		c, err := net.DialTimeout("tcp4", "127.0.0.1:"+port, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p, port
}

// session is a client with its terminal.
type session struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startSession(t *testing.T, dir, port, script string) *session {
	t.Helper()
	s := &session{cmd: exec.Command(testkit.RequireProgram(t, "ssh", "openssh-client"), "-F", "none", "-tt", "-p", port, "-i", filepath.Join(dir, "user"),
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@127.0.0.1", script)}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill() })
	s.out = bufio.NewScanner(out)
	return s
}

func (s *session) say(t *testing.T, word string) {
	t.Helper()
	if _, err := io.WriteString(s.in, word+"\n"); err != nil {
		t.Fatal(err)
	}
}

// await returns the next line that begins with a text.
func (s *session) await(t *testing.T, text string) string {
	t.Helper()
	timer := time.AfterFunc(testkit.Patience, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	for s.out.Scan() {
		if line := strings.TrimSpace(s.out.Text()); strings.HasPrefix(line, text) {
			return line
		}
	}
	t.Fatalf("the session has ended before it said %q: %v", text, s.out.Err())
	return ""
}
