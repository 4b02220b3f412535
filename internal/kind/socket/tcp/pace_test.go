package tcp

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// paceOf reads what TCP_INFO tells of a connection.
func paceOf(t *testing.T, fd int) (window, threshold uint32, options uint8) {
	t.Helper()
	var b [144]byte
	if _, err := linux.Getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_INFO, b[:]); err != nil {
		t.Fatal(err)
	}
	return binary.NativeEndian.Uint32(b[80:]), binary.NativeEndian.Uint32(b[76:]), b[5]
}

// TestPacer: a connection has the pace that it is given, and its own congestion
// control afterwards; another one, and what is 0, stays as it is.
func TestPacer(t *testing.T) {
	p, err := NewPacer()
	if err != nil {
		testkit.Lacks(t, "congestion controls that are programs (Linux 6.4)", err)
	}
	defer p.Close() //nolint:errcheck // of a test
	a, b := loopback(t)
	setControl(t, a, "reno") // others set the threshold themselves when they begin
	own := must(unix.GetsockoptString(a, unix.IPPROTO_TCP, unix.TCP_CONGESTION))(t)
	before, threshold, _ := paceOf(t, b)
	if err := p.Set(a, &Pace{Window: 37, Threshold: 23, ECN: ecnOK | ecnSeen}); err != nil {
		t.Fatal(err)
	}
	if w, th, o := paceOf(t, a); w != 37 || th != 23 || o&optECN == 0 || o&optECNSeen == 0 {
		t.Errorf("window %d, threshold %d, options %#x; 37, 23 and ECN were set", w, th, o)
	}
	if now := must(unix.GetsockoptString(a, unix.IPPROTO_TCP, unix.TCP_CONGESTION))(t); now != own {
		t.Errorf("its congestion control is %s, and was %s", now, own)
	}
	if w, th, o := paceOf(t, b); w != before || th != threshold || o&optECN != 0 {
		t.Errorf("the other end has window %d, threshold %d, options %#x", w, th, o)
	}
	if err := p.Set(a, &Pace{Window: 11}); err != nil {
		t.Fatal(err)
	}
	if w, th, o := paceOf(t, a); w != 11 || th != 23 || o&optECN == 0 {
		t.Errorf("window %d, threshold %d, options %#x after the window alone was set to 11", w, th, o)
	}
}

func setControl(t *testing.T, fd int, name string) {
	t.Helper()
	if err := linux.Setsockopt(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte(name)); err != nil {
		t.Fatal(err)
	}
}

// TestPacerGone: nothing of it stays.
func TestPacerGone(t *testing.T) {
	p, err := NewPacer()
	if err != nil {
		testkit.Lacks(t, "congestion controls that are programs (Linux 6.4)", err)
	}
	a, _ := loopback(t)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := linux.Setsockopt(a, unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte(p.name)); err != unix.ENOENT {
		t.Errorf("TCP_CONGESTION %s: %v, and it was taken away", p.name, err)
	}
}

// loopback returns both ends of a connection.
func loopback(t *testing.T) (a, b int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // of a test
	fds := make([]int, 0, 2)
	keep := func(c net.Conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.(*net.TCPConn).File()
		c.Close() //nolint:errcheck // f is it
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() }) //nolint:errcheck // of a test
		fds = append(fds, int(f.Fd()))
	}
	keep(net.Dial("tcp4", l.Addr().String()))
	keep(l.Accept())
	return fds[0], fds[1]
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestPaceParse: what is written is read, and becomes slower with time.
func TestPaceParse(t *testing.T) {
	now := time.Now()
	e := (&Pace{Window: 100, Threshold: noThreshold, ECN: ecnOK}).Entry()
	e.Time = proto.Uint64(uint64(now.UnixMilli()))
	p, err := ParsePace(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		idle      time.Duration
		window    uint32
		threshold uint32
	}{{0, 100, noThreshold}, {time.Millisecond, 100, noThreshold}, {1100 * time.Millisecond, 50, noThreshold}, {time.Hour, burst, noThreshold}, {-time.Hour, 100, noThreshold}} {
		if got := p.Rested(p.At.Add(c.idle)); got.Window != c.window || got.Threshold != c.threshold || got.ECN != ecnOK {
			t.Errorf("after %v: %+v", c.idle, got)
		}
	}
	if p.Threshold = 20; p.Rested(now.Add(time.Minute)).Threshold != 75 {
		t.Errorf("%+v; a threshold of 75 was expected", p.Rested(now.Add(time.Minute)))
	}
	for _, usual := range []*Pace{nil, {}, {Window: burst, Threshold: noThreshold}, {Window: 2*burst - 1, Threshold: noThreshold}} {
		if e := usual.Entry(); e != nil {
			t.Errorf("%+v is written as %v", usual, e)
		}
	}
	if e := (&Pace{Window: 20, Threshold: noThreshold, ECN: ecnOK | ecnAccurate}).Entry(); e == nil || e.Ecn != nil {
		t.Errorf("accurate ECN is written as %v", e)
	}
}

// checkPace: no image asks for what can't be.
func checkPace(t *testing.T, e *extra.Pace) {
	t.Helper()
	p, err := ParsePace(e)
	if err != nil {
		return
	}
	if p = p.Rested(time.Now()); p.Window == 0 || p.Window > maxPace || p.Threshold == 0 || p.Threshold > noThreshold || p.ECN&^ecnKept != 0 {
		t.Errorf("%+v", p)
	}
}
