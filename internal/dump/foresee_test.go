package dump

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// A client that waits to be accepted, and can't be put back, is refused before
// anything is frozen. Of a server at which nobody waits nothing is said.
func TestWaitingForeseen(t *testing.T) {
	testkit.RequireRoot(t)
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, testkit.BuildC(t, "../../test/targets/backlog.c"), "1", "alone", dir)
	p.AwaitAt(t, 0)
	t.Setenv(bpf.Off, "1") // as on a kernel without bpf_sk_assign_tcp_reqsk()
	if stages, err := stagesOf(t, p, false); err != nil || !slices.Contains(stages, "freeze") {
		t.Errorf("nobody waits: stages %q, error %v", stages, err)
	}
	arrived(t, client(t, p))
	stages, err := stagesOf(t, p, false)
	if !errors.Is(err, kind.ErrUnsupported) {
		t.Fatalf("a client waits: error %v", err)
	}
	for _, w := range []string{"1 connection waits to be accepted", "bpf_sk_assign_tcp_reqsk", "--skip-in-flight", "descriptor"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("a client waits: %v, want %q named", err, w)
		}
	}
	if slices.Contains(stages, "freeze") {
		t.Errorf("a client waits: the tree was frozen, stages %q", stages)
	}
	testkit.Unharmed(t, p.PID)
	if stages, err := stagesOf(t, p, true); err != nil || !slices.Contains(stages, "freeze") {
		t.Errorf("--skip-in-flight: stages %q, error %v", stages, err)
	}
	testkit.Unharmed(t, p.PID)
}

// client connects to a server until the test ends.
func client(t *testing.T, p *testkit.Proc) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", p.Told(t, "port")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// arrived waits until the server's end of a connection is there: connect(2) does not.
func arrived(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		_, err = c.Write([]byte("x"))
	}
	for left := 1; err == nil && left > 0; runtime.Gosched() {
		err = raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stagesOf dumps a server that goes on, and returns what was done.
func stagesOf(t *testing.T, p *testkit.Proc, skip bool) (stages []string, err error) {
	t.Helper()
	o := options.NewDump()
	o.Tree, o.LeaveRunning, o.TCPEstablished, o.SkipInFlight = p.PID, true, true, skip
	seen := event.Progress(func(s string) { stages = append(stages, s) })
	_, err = Run(context.Background(), o, dirOf(t), slog.New(slog.DiscardHandler), event.All{seen})
	return stages, err
}
