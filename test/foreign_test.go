package test

import (
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Connections from addresses that the machine doesn't have, which an option let them
// have that is off since, or not.
func TestForeignConnections(t *testing.T) {
	e := glisOnly(t)
	c := testkit.BuildC(t, "targets/foreign.c")
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	here, there := testkit.Here(), testkit.NewNet(t)
	here.Up(t, "lo")
	testkit.Veth(t, here, "glis-a", there, "glis-b")
	for _, x := range []struct{ near, far, foreign, prefix string }{
		{"10.97.0.1", "10.97.0.2", "192.0.2.7", "192.0.2.0/24"}, {"fd97::1", "fd97::2", "2001:db8::7", "2001:db8::/64"},
	} {
		here.Address(t, "glis-a", x.near+"/24")
		there.Address(t, "glis-b", x.far+"/24")
		there.Route(t, x.prefix, x.near, true)
		here.Take(t, x.prefix, "glis-a")
		for _, option := range []string{"on", "off"} {
			outliveForeign(t, e, there, []string{c, x.foreign, x.far, "", option})
		}
	}
}

func outliveForeign(t *testing.T, e testkit.Engine, there *testkit.Net, args []string) {
	t.Helper()
	l, err := there.Listen("tcp", net.JoinHostPort(args[2], "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, args[3], _ = net.SplitHostPort(l.Addr().String())
	p := testkit.Start(t, testkit.NewDir(t), args...)
	var clients []*client
	for range 4 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, talk(t, conn, 64))
	}
	awaitMore(t, p.Dir, clients)
	for range 3 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img, established...)
		e.Restore(t, img, established...)
		awaitMore(t, p.Dir, clients)
	}
	finish(t, clients)
}
