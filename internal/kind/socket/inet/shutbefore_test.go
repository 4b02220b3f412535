package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// Who waits at a listener that was shut down for sending before has been told the end
// already. What else such sockets are test/targets/shutbefore.c shows.
func TestShutBefore(t *testing.T) {
	testkit.RequireRoot(t)
	d := tcp4.bound(t, "127.0.0.1")
	if err := unix.Shutdown(d.Int(), unix.SHUT_WR); err != unix.ENOTCONN { //nolint:errorlint // of a system call
		t.Fatal(err)
	}
	must(t, unix.Listen(d.Int(), 5))
	client(t, tcp4, d.Int())
	o := &options.Dump{}
	o.TCPEstablished = true
	refused(t, o, d.Int(), "it is in state") // FIN_WAIT2, or 1 as long as its end is not acknowledged
}
