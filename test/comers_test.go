package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Who begins to connect to a server whose images are written, and that is about to be
// killed, isn't let in and reset then, and isn't told that nobody is there: it tries again,
// and finds the restored server, or, if the dump fails after all or the engine is killed, the
// one that it was.
func TestComers(t *testing.T) {
	e := glisOnly(t)
	c := testkit.BuildC(t, "targets/echo.c")
	for _, x := range []struct {
		name, host string
		args       []string
		idle       bool
		end        string // of the dump, if it doesn't come to its own
	}{
		{name: "alone", host: "127.0.0.1"}, {name: "beside a connection", host: "127.0.0.1", idle: true},
		{name: "IPv6", host: "::1", args: []string{"6"}}, {name: "failed", host: "127.0.0.1", end: "false"},
		{name: "killed", host: "127.0.0.1", end: "kill -KILL $PPID"},
	} {
		t.Run(x.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), append([]string{c}, x.args...)...)
			port := p.Told(t, "port")
			var clients []*client
			if x.idle {
				conn, err := net.Dial("tcp", net.JoinHostPort(x.host, port))
				if err != nil {
					t.Fatal(err)
				}
				clients = append(clients, talk(t, conn, 64))
			}
			before, img := tables(t), testkit.NewDir(t)
			script, begun := connectsLate(t, x.host, port, x.end)
			args := []string{"--tcp-established", "--action-script", script}
			if x.end != "" {
				c := exec.Command(e.Path, append([]string{"dump", "-t", strconv.Itoa(p.PID), "-D", img}, args...)...)
				if err := c.Run(); err == nil {
					t.Error("the dump says that it has come to its end")
				}
			} else {
				e.Save(t, p.PID, img, args...)
			}
			syn := begun()
			if x.end == "" {
				tries(t, syn, 1)
				e.Restore(t, img, established...)
			}
			connected := []unix.PollFd{{Fd: int32(syn), Events: unix.POLLOUT}}
			if n, err := testkit.PollFds(connected, int(testkit.Patience.Milliseconds())); n != 1 || err != nil {
				t.Fatalf("the client is not connected: %d, %v", n, err)
			}
			clients = append(clients, talk(t, connOf(t, syn), 64))
			awaitMore(t, p.Dir, clients)
			finish(t, clients)
			if n := tables(t); n != before {
				t.Errorf("at the end there are %d tables of nftables, there were %d", n, before)
			}
		})
	}
}

// connectsLate makes a script for a dump, which has a client begin to connect when the
// images are written, and ends as it is told to. begun returns the client.
func connectsLate(t *testing.T, host, port, end string) (script string, begun func() int) {
	t.Helper()
	dir := testkit.NewDir(t)
	script = filepath.Join(dir, "script")
	ask, answer := filepath.Join(dir, "ask"), filepath.Join(dir, "answer")
	for _, name := range []string{ask, answer} {
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("#!%s\n[ $CRTOOLS_SCRIPT_ACTION = post-dump ] || exit 0\necho >%s\nread line <%s\n%s\n", testkit.RequireProgram(t, "sh", "dash"), ask, answer, end)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	type result struct {
		fd  int
		err error
	}
	done := make(chan result, 1)
	go func() {
		_, err := os.ReadFile(ask) // until it is written to
		fd := -1
		if err == nil {
			fd, err = connectSoon(host, port)
		}
		done <- result{fd, errors.Join(err, os.WriteFile(answer, []byte("\n"), 0))}
	}()
	return script, func() int {
		r := <-done
		if r.err != nil {
			t.Fatal(r.err)
		}
		t.Cleanup(func() { unix.Close(r.fd) })
		return r.fd
	}
}

// connectSoon returns a socket that is about to connect.
func connectSoon(host, port string) (int, error) {
	to, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return -1, err
	}
	at := to.AddrPort()
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: at.Addr().As16(), Port: to.Port})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: to.Port}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, sa); !errors.Is(err, unix.EINPROGRESS) {
		return fd, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// tries waits until a client has tried once more for the n-th time.
func tries(t *testing.T, syn int, n uint8) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); ; time.Sleep(time.Millisecond) {
		info, err := unix.GetsockoptTCPInfo(syn, unix.IPPROTO_TCP, unix.TCP_INFO)
		if code, _ := unix.GetsockoptInt(syn, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 || time.Now().After(end) {
			t.Fatalf("the client: %v, error %v", err, unix.Errno(code))
		}
		if info.Retransmits >= n {
			return
		}
	}
}
