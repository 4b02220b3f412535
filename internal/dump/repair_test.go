package dump

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// watching calls a function at every stage and point.
type watching func(at string)

func (w watching) Stage(name string) { w(name) }

func (w watching) Notify(_ context.Context, p event.Point, _ int) error { w(string(p)); return nil }

// connectionOf returns a copy of the descriptor of the only connection of a process.
func connectionOf(t *testing.T, pid int) int {
	t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	all, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		n, _ := strconv.Atoi(e.Name())
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Getpeername(fd); err == nil {
			return fd
		}
		unix.Close(fd)
	}
	t.Fatal("there is no connection")
	return -1
}

// A connection is in repair mode neither when pages are copied, nor when images are
// written, which may take long; and when its process is killed it is, so that its peer
// does not hear of its end, though no packet is held back.
func TestRepairModeIsShort(t *testing.T) {
	testkit.RequireRoot(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "../../test/targets/echo.c"))
	c, b := client(t, p), []byte("x")
	_, err := c.Write(b)
	if err == nil {
		_, err = c.Read(b) // the server has accepted it
	}
	if err != nil {
		t.Fatal(err)
	}
	own, seen := connectionOf(t, p.PID), map[string]int{}
	o := options.NewDump()
	o.Tree, o.ShellJob, o.TCPEstablished, o.NetworkLock = p.PID, true, true, options.NetworkLockSkip
	_, err = Run(context.Background(), o, dirOf(t), slog.New(slog.DiscardHandler), event.All{watching(func(at string) {
		if on, err := unix.GetsockoptInt(own, unix.IPPROTO_TCP, unix.TCP_REPAIR); err == nil {
			seen[at] = on
		}
		if at == string(event.PostDump) {
			unix.Close(own) // the last one is the process's
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Reap(t, []int{p.PID})
	for _, at := range []string{"freeze", "pages", "write", string(event.PostDump)} {
		if on, ok := seen[at]; !ok || on != 0 {
			t.Errorf("at %q the connection's TCP_REPAIR is %d; seen at all stages: %v", at, on, seen)
		}
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	const tcpEstablished = 1
	if info.State != tcpEstablished {
		t.Errorf("the peer's end is in state %d after the kill, want %d: it was told of the end", info.State, tcpEstablished)
	}
}
