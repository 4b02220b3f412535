package netlock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// ownNet puts the test into a network namespace of its own, with loopback up.
func ownNet(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Fatal(err)
	}
}

// pair is a TCP connection over loopback.
func pair(t *testing.T, network, addr string) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// In this thread's namespace: sockets are made by who calls.
	a, err = net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func flow(c net.Conn) Flow {
	at := func(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }
	return Flow{Protocol: unix.IPPROTO_TCP, Local: at(c.LocalAddr()), Remote: at(c.RemoteAddr())}
}

// passes tells whether a byte gets from a to b, however busy the machine is.
func passes(t *testing.T, a, b net.Conn) bool {
	t.Helper()
	return arrives(t, a, b, testkit.Patience)
}

// held tells whether a byte from a does not get to b, where it would be at once.
func held(t *testing.T, a, b net.Conn) bool {
	t.Helper()
	return !arrives(t, a, b, 50*time.Millisecond)
}

// arrives tells whether a byte gets from a to b in a time.
func arrives(t *testing.T, a, b net.Conn, within time.Duration) bool {
	t.Helper()
	if _, err := a.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	var got [1]byte
	_, err := b.Read(got[:])
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

// await reads the byte that was sent and held back.
func await(t *testing.T, b net.Conn) {
	t.Helper()
	if err := b.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	var got [1]byte
	if _, err := b.Read(got[:]); err != nil {
		t.Fatal(err)
	}
}

func TestHold(t *testing.T) {
	for _, prepared := range []bool{false, true} {
		t.Run(fmt.Sprintf("prepared=%v", prepared), func(t *testing.T) { testHold(t, prepared) })
	}
}

func testHold(t *testing.T, prepared bool) {
	for network, addr := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		t.Run(network, func(t *testing.T) {
			ownNet(t)
			a, b := pair(t, network, addr)
			c, d := pair(t, network, addr)
			l, err := Open()
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if prepared {
				if err := l.Prepare("glis-test"); err != nil {
					t.Fatal(err)
				}
				if !passes(t, a, b) {
					t.Error("a prepared lock holds something back")
				}
			}
			if err := l.Hold("glis-test", []Flow{flow(a), flow(b)}); err != nil {
				t.Fatal(err)
			}
			if !held(t, a, b) {
				t.Error("a packet of a flow that is held came through")
			}
			if !passes(t, c, d) {
				t.Error("a packet of another flow was held back")
			}
			if err := l.Pass(); err != nil {
				t.Fatal(err)
			}
			await(t, b)
			if !passes(t, b, a) {
				t.Error("a packet is held back after Pass")
			}
			if err := l.Release(); err != nil {
				t.Fatal(err)
			}
			if !passes(t, a, b) {
				t.Error("a packet is held back after the release")
			}
			if err := Unlock("glis-test"); err != nil { // nothing is left to be removed
				t.Error(err)
			}
		})
	}
}

// Packets of an IPv6 socket with an IPv4 address are IPv4 packets.
func TestHoldMapped(t *testing.T) {
	ownNet(t)
	a, b := pair(t, "tcp4", "127.0.0.1:0")
	f := flow(a)
	mapped := func(p netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(p.Addr().As16()), p.Port())
	}
	f.Local, f.Remote = mapped(f.Local), mapped(f.Remote)
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Hold("glis-test", []Flow{f}); err != nil {
		t.Fatal(err)
	}
	if !held(t, a, b) {
		t.Error("a packet came through")
	}
}

func TestHeldUntilLastCloses(t *testing.T) {
	ownNet(t)
	a, b := pair(t, "tcp4", "127.0.0.1:0")
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	copied, err := unix.Dup(l.Int())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Hold("glis-test", []Flow{flow(a)}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !held(t, a, b) {
		t.Error("a copy of the socket is open, and a packet came through")
	}
	if err := unix.Close(copied); err != nil {
		t.Fatal(err)
	}
	await(t, b)
}

func TestKeep(t *testing.T) {
	ownNet(t)
	a, b := pair(t, "tcp4", "127.0.0.1:0")
	name := KeptName("0a2b4c6d-0a2b-0a2b-0a2b-0a2b4c6d8e0f")
	if err := Unlock(name); err != nil {
		t.Errorf("unlock when nothing is kept: %v", err)
	}
	for range 2 { // the second replaces the first
		if err := Keep(name, []Flow{flow(a), flow(b)}); err != nil {
			t.Fatal(err)
		}
	}
	if !held(t, a, b) {
		t.Error("a packet of a kept flow came through")
	}
	for range 2 { // the second has nothing to do
		if err := Unlock(name); err != nil {
			t.Fatal(err)
		}
	}
	await(t, b)
}

// What is kept under a name is replaced in one transaction: between two a packet would
// come through, and find no socket.
func TestKeepAgain(t *testing.T) {
	ownNet(t)
	a, b := pair(t, "tcp4", "127.0.0.1:0")
	for range 3 {
		before := generation(t)
		if err := Keep("glis-test", []Flow{flow(a)}); err != nil {
			t.Fatal(err)
		}
		if n := generation(t) - before; n != 1 {
			t.Errorf("%d transactions", n)
		}
	}
	if !held(t, a, b) {
		t.Error("nothing is held back")
	}
}

// generation returns how many transactions nf_tables has had.
func generation(t *testing.T) uint32 {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()  //nolint:errcheck // of a test
	const header = 4 // struct nfgenmsg
	got, err := c.Execute(netlink.Message{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request}, Data: make([]byte, header)})
	if err != nil || len(got) != 1 {
		t.Fatalf("%d messages, %v", len(got), err)
	}
	d, err := netlink.NewAttributeDecoder(got[0].Data[header:])
	if err != nil {
		t.Fatal(err)
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		if d.Type() == unix.NFTA_GEN_ID {
			return d.Uint32()
		}
	}
	t.Fatal("it isn't told")
	return 0
}

func TestKeptName(t *testing.T) {
	if got, want := KeptName("0a2b4c6d-0a2b-0a2b-0a2b-0a2b4c6d8e0f"), "CRIU-0a2b4c6d-0a2b-0a2b-0a"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := KeptName("7"); got != "CRIU-7" {
		t.Errorf("got %q", got)
	}
}

// Ten thousands of flows are one transaction.
func TestHoldMany(t *testing.T) {
	ownNet(t)
	a, b := pair(t, "tcp4", "127.0.0.1:0")
	flows := []Flow{flow(a)}
	for i := range 20000 {
		f := flow(a)
		f.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint16(i+1))
		if i%2 == 1 {
			f.Local = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)}), uint16(i+1))
			f.Remote = netip.AddrPortFrom(netip.IPv6Loopback(), 80)
		}
		flows = append(flows, f)
	}
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Hold("glis-test", flows); err != nil {
		t.Fatal(err)
	}
	if !held(t, a, b) {
		t.Error("a packet came through")
	}
}

func TestHoldTwiceRefused(t *testing.T) {
	ownNet(t)
	a, _ := pair(t, "tcp4", "127.0.0.1:0")
	for i := range 2 {
		l, err := Open()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.Hold("glis-test", []Flow{flow(a)}); (i == 1) != errors.Is(err, unix.EEXIST) && (i == 1) != errors.Is(err, unix.EPERM) {
			t.Errorf("time %d: %v", i+1, err)
		} else if i == 1 && !strings.Contains(err.Error(), "another restore of these images") {
			t.Errorf("why isn't said: %v", err)
		}
	}
}

// What is not an answer of the kernel must not make it panic or hang.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = answer(b) })
}

func BenchmarkHold(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if os.Getuid() != 0 {
				b.Skip("needs root for a network namespace")
			}
			runtime.LockOSThread()
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				b.Fatal(err)
			}
			var flows []Flow
			for i := range n {
				flows = append(flows, Flow{Protocol: unix.IPPROTO_TCP,
					Local:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 7),
					Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, 1}), 9)})
			}
			for b.Loop() {
				l, err := Open()
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := l.Prepare("glis-bench"); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := l.Hold("glis-bench", flows); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// A table that an earlier dump has left is found by any flow of many, and by none that it
// hasn't, few as many.
func TestHeldByMany(t *testing.T) {
	ownNet(t)
	flows := func(ip string, from, n int) (out []Flow) {
		at := netip.MustParseAddr(ip)
		for port := from; port < from+n; port++ {
			out = append(out, Flow{Protocol: unix.IPPROTO_TCP, Local: netip.AddrPortFrom(at, 80), Remote: netip.AddrPortFrom(at, uint16(port))})
		}
		return out
	}
	for _, ip := range []string{"10.0.0.1", "fd00::1"} {
		const name = "CRIU-glis-test-many"
		if err := Keep(name, flows(ip, 1000, 3000)); err != nil {
			testkit.Lacks(t, "nf_tables", err, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP)
			t.Fatal(err)
		}
		for _, c := range []struct {
			flows []Flow
			want  string
		}{
			{flows(ip, 3999, 1), name}, {flows(ip, 4000, 1), ""}, {flows(ip, 3999, fewKeys), name}, {flows(ip, 4000, 500), ""},
			{flows("10.0.0.2", 1000, 500), ""}, {flows("fd00::2", 1000, 500), ""},
		} {
			if got, err := HeldBy(c.flows); err != nil || got != c.want {
				t.Errorf("%d flows from %v on are held by %q, want %q: %v", len(c.flows), c.flows[0], got, c.want, err)
			}
		}
		if err := Unlock(name); err != nil {
			t.Fatal(err)
		}
	}
}

// What it costs to ask for many flows.
func BenchmarkHeldBy(b *testing.B) {
	at := netip.MustParseAddr("10.0.0.1")
	var flows, others []Flow
	for i := range 10_000 {
		flows = append(flows, Flow{Protocol: unix.IPPROTO_TCP, Local: netip.AddrPortFrom(at, 80), Remote: netip.AddrPortFrom(at, uint16(1000+i))})
		others = append(others, Flow{Protocol: unix.IPPROTO_TCP, Local: netip.AddrPortFrom(at, 80), Remote: netip.AddrPortFrom(at, uint16(20_000+i))})
	}
	const name = "CRIU-glis-bench-many"
	if err := Keep(name, flows); err != nil {
		testkit.Lacks(b, "nf_tables", err, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP)
		b.Fatal(err)
	}
	defer Unlock(name) //nolint:errcheck // a benchmark
	for b.Loop() {
		if held, err := HeldBy(others); err != nil || held != "" {
			b.Fatal(held, err)
		}
	}
}
