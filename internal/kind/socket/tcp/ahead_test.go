package tcp

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
)

// A connection that heard data out of order, and has no memory for what belongs in front of it,
// has shut its window at once: the last that it heard is behind all that may come. It is read as
// one that the kernel, and other readers of the images, take.
func TestHeardAhead(t *testing.T) {
	testkit.RequireRoot(t)
	dir := t.TempDir()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	out, err := net.Dial("tcp4", l.Addr().String())
	check(t, err)
	defer out.Close()
	in, err := l.Accept()
	check(t, err)
	defer in.Close()
	f, err := in.(*net.TCPConn).File()
	check(t, err)
	defer f.Close()
	n := int(f.Fd())
	write := func(count int) { _, err := out.Write(make([]byte, count)); check(t, err) }
	write(30_000)
	testkit.Await(t, dir, 0, "data that is to be read", func() bool {
		waits, err := unix.IoctlGetInt(n, unix.TIOCINQ)
		return err == nil && waits == 30_000
	})
	s := readConn(t, n)
	from, to := addrOf(out.LocalAddr()), addrOf(out.RemoteAddr())
	p := Path{Local: to, Remote: from}
	check(t, (&segment{Path: p, flags: flagAck, seq: s.Entry.GetInqSeq() + 20_000, ack: s.Entry.GetOutqSeq(), window: 500, data: make([]byte, 100)}).send())
	testkit.Await(t, dir, 0, "data out of order", func() bool { return readConn(t, n).Entry.GetSndWl1() == s.Entry.GetInqSeq()+20_000 })
	check(t, unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	write(100)
	testkit.Await(t, dir, 0, "a window that is shut", func() bool { return readConn(t, n).Entry.GetRcvWnd() == 0 })

	s = readConn(t, n)
	if _, err := Parse(s.State, s.Entry, s.Queues); err != nil {
		t.Error(err)
	}
}

// The same of one that is read from the kernel's memory.
func TestHeardAheadInMemory(t *testing.T) {
	var p sockmem.Picture
	p.Word[sockmem.State], p.Word[sockmem.MssClamp] = Established, 1000
	p.Word[sockmem.RcvNxt], p.Word[sockmem.RcvWup] = 5000, 5000
	for _, w := range []struct{ window, wl1, want uint32 }{{0, 5001, 5000}, {1000, 6000, 6000}, {1000, 6001, 5000}, {0, 5000, 5000}} {
		p.Word[sockmem.RcvWnd], p.Word[sockmem.SndWl1] = w.window, w.wl1
		s := FromPicture(&p, 0, nil)
		if got := s.Entry.GetSndWl1(); got != w.want {
			t.Errorf("window %d, told at %d: read as %d, want %d", w.window, w.wl1, got, w.want)
		}
		if _, err := Parse(s.State, s.Entry, nil); err != nil {
			t.Error(err)
		}
	}
}

func addrOf(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// readConn reads a connection, which it leaves as it was.
func readConn(t *testing.T, n int) *Stream {
	t.Helper()
	o := Repair()
	check(t, unix.SetsockoptInt(n, o.Level, o.Name, o.Value))
	s, err := Read(n, false)
	for _, o := range Quiet(0) {
		check(t, unix.SetsockoptInt(n, o.Level, o.Name, o.Value))
	}
	check(t, err)
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
