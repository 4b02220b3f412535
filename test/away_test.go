package test

import (
	"errors"
	"fmt"
	"net"
	"os"
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
	testkit.AwaitFile(t, filepath.Join(p.Dir, "port"), p.PID)
	b, err := os.ReadFile(filepath.Join(p.Dir, "port"))
	if err != nil {
		t.Fatal(err)
	}
	ports := strings.Fields(string(b))
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
	if err := a.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
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
