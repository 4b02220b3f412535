package test

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// asker is a client of targets/udpecho.c.
type asker struct {
	to   string
	conn *net.UDPConn
	n    int
}

// askers are clients of all its ports, by all ways.
func askers(t *testing.T, p *testkit.Proc) []*asker {
	t.Helper()
	b := p.Told(t, "port")
	ports := strings.Fields(b)
	var all []*asker
	for _, x := range []struct {
		host string
		port int
	}{{"127.0.0.1", 0}, {"127.0.0.1", 1}, {"::1", 2}, {"127.0.0.1", 2}, {"127.0.0.1", 3}} {
		a := &asker{to: net.JoinHostPort(x.host, ports[x.port])}
		c, err := net.Dial("udp", a.to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		a.conn = c.(*net.UDPConn)
		all = append(all, a)
	}
	return all
}

// ask sends a number and wants it back.
func (a *asker) ask(t *testing.T) {
	t.Helper()
	a.n++
	text := fmt.Sprintf("%s, number %d", a.to, a.n)
	if _, err := a.conn.Write([]byte(text)); err != nil {
		t.Fatalf("%s: %v", a.to, err)
	}
	if err := a.conn.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := a.conn.Read(b)
	if err != nil || string(b[:n]) != text {
		t.Fatalf("%s gives %q back, %v; want %q", a.to, b[:max(n, 0)], err, text)
	}
}

// told tells whether it is told that nobody is there when it sends: over the
// loopback interface before write(2) returns.
func (a *asker) told(t *testing.T) bool {
	t.Helper()
	for range 2 { // the second reports what came of the first
		_, err := a.conn.Write([]byte("are you there?"))
		if errors.Is(err, unix.ECONNREFUSED) {
			return true
		}
		if err != nil {
			t.Fatalf("%s: %v", a.to, err)
		}
	}
	return false
}

func toldTo(t *testing.T, all []*asker, want bool, when string) {
	t.Helper()
	for _, a := range all {
		if a.told(t) != want {
			t.Errorf("%s: who sends to %s is told that nobody is there: %v, want %v", when, a.to, !want, want)
		}
	}
}

// Without a word from the application no two restores of one image share a port:
// the second ends, and says why; the first goes on. With SO_REUSEPORT they do.
func TestTwoRestores(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	for _, x := range []struct {
		target string
		args   []string
		shares bool
	}{{target: "udpecho"}, {target: "echo"}, {target: "echo", args: []string{"6"}}, {target: "echo", args: []string{"share"}, shares: true}} {
		t.Run(strings.Join(append([]string{x.target}, x.args...), " "), func(t *testing.T) {
			p := testkit.Start(t, testkit.NewDir(t), append([]string{testkit.BuildC(t, "targets/"+x.target+".c")}, x.args...)...)
			testkit.AwaitFile(t, filepath.Join(p.Dir, "port"), p.PID)
			img := testkit.NewDir(t)
			e.Save(t, p.PID, img)
			e.Restore(t, img)
			testkit.Unharmed(t, p.PID)
			// Without the first one's number, so that only the port is in the way.
			second := []string{"restore", "-d", "-D", img}
			args := append([]string{"--fork", "--pid", "--mount-proc", "--kill-child"}, append([]string{e.Path}, second...)...)
			out, err := exec.Command(testkit.RequireProgram(t, "unshare", "util-linux"), args...).CombinedOutput()
			if x.shares {
				if err != nil {
					t.Errorf("a second restore beside the first: %v, %s", err, out)
				}
			} else if err == nil || !strings.Contains(string(out), "another socket has this port") {
				t.Errorf("a second restore beside the first: %v, %s", err, out)
			}
			testkit.Unharmed(t, p.PID)
		})
	}
}

// A lock for sockets that are to move is at their new address.
func TestLockMoved(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/udpecho.c"))
	old := askers(t, p)[0]
	old.ask(t)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	run := func(args ...string) {
		t.Helper()
		if r := e.Run(t, append(args, "-D", img)...); r.Code != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	_, port, err := net.SplitHostPort(old.to)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	now := &asker{to: c.RemoteAddr().String(), conn: c.(*net.UDPConn)}
	toldTo(t, []*asker{now}, true, "after the dump, at the new address")
	const move = "127.0.0.1=127.0.0.2"
	run("lock", "--remap-addr", move)
	toldTo(t, []*asker{now}, false, "after lock, at the new address")
	toldTo(t, []*asker{old}, true, "after lock, at the old address")
	e.Restore(t, img, "--remap-addr", move)
	now.ask(t)
}

// Who sends datagrams to a server that is away is not told so, three generations
// long, unless the lock is taken off or not wanted.
func TestPortsAway(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/udpecho.c"))
	all := askers(t, p)
	run := func(args ...string) {
		t.Helper()
		if r := e.Run(t, args...); r.Code != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	for generation := range 3 {
		for _, a := range all {
			a.ask(t)
		}
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		toldTo(t, all, false, "after the dump")
		if generation == 1 {
			run("unlock", "-D", img)
			toldTo(t, all, true, "after unlock")
			run("lock", "-D", img)
			toldTo(t, all, false, "after lock")
		}
		e.Restore(t, img)
	}
	for _, a := range all {
		a.ask(t)
	}
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--network-lock", "skip")
	toldTo(t, all, true, "after a dump without a lock")
	e.Restore(t, img, "--network-lock", "skip")
	for _, a := range all {
		a.ask(t)
	}
	e.Save(t, p.PID, testkit.NewDir(t), "--leave-running")
	for _, a := range all {
		a.ask(t)
	}
	if err := unix.Kill(p.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.Wait(t)
	toldTo(t, all, true, "after a dump that left it running, and its end")
}
