package inet

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
)

// A connection that was closed with data still to send is counted, and the dump's log
// names it; without one it is silent.
func TestOrphans(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before, err := proc.Orphans()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	full := make([]byte, 1<<20)
	raw.Write(func(fd uintptr) bool { // more than the peer has room for: it stays to be sent
		for {
			if _, err := unix.Write(int(fd), full); err != nil {
				return true
			}
		}
	})
	c.Close()
	if n, err := proc.Orphans(); err != nil || n <= before {
		t.Fatalf("%d orphans, %v; there were %d", n, err, before)
	}
	var said bytes.Buffer
	tellOrphans(&kind.DumpEnv{Log: slog.New(slog.NewTextHandler(&said, nil))})
	if want := "from=" + c.LocalAddr().String() + " to=" + l.Addr().String(); !strings.Contains(said.String(), "orphans") || !strings.Contains(said.String(), want) {
		t.Errorf("the log says %q, nothing of %s", said.String(), want)
	}
}
