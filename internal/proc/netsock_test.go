package proc

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

const netSockHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"

func TestNetSockets(t *testing.T) {
	text := netSockHead +
		"   1: 0100007F:0001 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 26341 2 0000000000000000 0\n" +
		"  58: B80D0120000000000000000001000000:003A 00000000000000000000000001000000:0007 01 00000000:00000000 00:00000000 00000000  1000        0 9 2 0000000000000000 12\n"
	got, err := parseNetSockets("net/raw", []byte(text))
	want := []NetSocket{
		{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("0.0.0.0:0"), 7, 0x300, 26341},
		{netip.MustParseAddrPort("[2001:db8::1]:58"), netip.MustParseAddrPort("[::1]:7"), 1, 0, 9},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"x", "1: 0100:1 2 3", "1: 0100007F:0001 00000000:0000 07 1", "1: 0100007F 00000000:0000 07"} {
		if _, err := parseNetSockets("net/raw", []byte(netSockHead+bad+"\n")); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What the kernel writes of a socket of our own is read.
func TestNetSocketsLive(t *testing.T) {
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		testkit.Lacks(t, "raw sockets", err)
	}
	defer unix.Close(n)
	var st unix.Stat_t
	if err := unix.Fstat(n, &st); err != nil {
		t.Fatal(err)
	}
	all, err := NetSockets("raw")
	if err != nil || !slices.ContainsFunc(all, func(s NetSocket) bool { return s.Inode == st.Ino && s.Local.Port() == 1 && s.State == 7 }) {
		t.Errorf("inode %d is not in %v: %v", st.Ino, all, err)
	}
	for _, name := range []string{"raw6", "icmp", "icmp6"} {
		if _, err := NetSockets(name); err != nil {
			t.Error(err)
		}
	}
}
