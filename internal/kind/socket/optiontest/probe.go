// Package optiontest asks the kernel which options sockets have, for tests:
// one that nobody has written down is a failing line, not a silent loss.
package optiontest

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
)

// ID is an option.
type ID struct{ Level, Opt int }

// aliases are options of SOL_SOCKET that are others by another name.
var aliases = map[ID]string{
	{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX}: "SO_BINDTODEVICE, see socket.Attachment",
	{unix.SOL_SOCKET, unix.SO_RCVTIMEO_NEW}:  "SO_RCVTIMEO",
	{unix.SOL_SOCKET, unix.SO_SNDTIMEO_NEW}:  "SO_SNDTIMEO",
}

// constant are options that this way of trying doesn't change, and why.
var constant = map[string]string{
	"IPV6_ADDR_PREFERENCES":     "its bits exclude each other",
	"IP_MULTICAST_IF":           "an address of this host",
	"IP_MULTICAST_TTL":          "not of streams",
	"IPV6_MULTICAST_IF":         "not of streams",
	"IPV6_MULTICAST_HOPS":       "not of streams",
	"TCP_CONGESTION":            "a name",
	"TCP_DELACK_MAX_US":         "of a certain range",
	"TCP_RTO_MIN_US":            "of a certain range",
	"PACKET_VNET_HDR_SZ":        "of two sizes",
	"SO_PEEK_OFF":               "of some families",
	"SO_VM_SOCKETS_BUFFER_SIZE": "no larger than its limit",
	"IPV6_V6ONLY":               "not of all protocols",
}

// last is the highest number of an option that is tried, by level. Beyond are
// those of tables of packets (iptables, multicast routing).
var last = map[int]int{
	unix.SOL_SOCKET: 127, unix.IPPROTO_IP: 63, unix.IPPROTO_IPV6: 79, unix.IPPROTO_TCP: 63, unix.IPPROTO_UDP: 110, unix.IPPROTO_UDPLITE: 110,
	unix.SOL_PACKET: 40, unix.SOL_NETLINK: 24, 255: 24 /* SOL_RAW */, unix.IPPROTO_ICMPV6: 24, unix.SOL_MPTCP: 24, unix.AF_VSOCK: 24, unix.SOL_XDP: 24,
}

// Complete is Known, and fails for each option of the table that can be read, but
// not be set, too.
func Complete(t *testing.T, table socket.Table, except map[ID]string, like func() (int, error), levels ...int) {
	t.Helper()
	found := Known(t, table, except, like, levels...)
	for _, o := range table {
		if !found[ID{o.Level, o.Opt}] && !o.Ask && constant[o.Name] == "" && slices.Contains(levels, o.Level) && readable(t, like, ID{o.Level, o.Opt}) {
			t.Errorf("%s is in the table and can be read, but not be set", o.Name)
		}
	}
}

// futile are options that sockets of all families take before Linux 6.16, though only those
// that have them in their tables heed them.
var futile = map[ID]string{
	{unix.SOL_SOCKET, unix.SO_PASSCRED}: "SO_PASSCRED", {unix.SOL_SOCKET, unix.SO_PASSSEC}: "SO_PASSSEC", {unix.SOL_SOCKET, unix.SO_PASSPIDFD}: "SO_PASSPIDFD",
}

// Known fails for each option that a socket of this sort lets be read and set, and
// that is neither in the table nor among except, which gives a reason for each. It
// returns those that are in the table.
func Known(t *testing.T, table socket.Table, except map[ID]string, like func() (int, error), levels ...int) map[ID]bool {
	t.Helper()
	known := map[ID]bool{}
	for _, o := range table {
		known[ID{o.Level, o.Opt}] = true
	}
	found := map[ID]bool{}
	for _, level := range levels {
		for opt := range last[level] + 1 {
			id := ID{level, opt}
			n, err := like()
			if err != nil {
				t.Fatal(err)
			}
			is := state(n, id)
			unix.Close(n)
			switch {
			case !is:
			case known[id]:
				found[id] = true
			case except[id] == "" && aliases[id] == "" && futile[id] == "":
				t.Errorf("option %d of level %d can be read and set, and is not in the table", opt, level)
			}
		}
	}
	return found
}

// readable tells whether a new socket lets an option be read.
func readable(t *testing.T, like func() (int, error), id ID) bool {
	t.Helper()
	n, err := like()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(n)
	_, ok := read(n, id)
	return ok
}

// state tells whether an option of a new socket can be read, set, and is then
// another one.
func state(fd int, id ID) bool {
	before, ok := read(fd, id)
	if !ok {
		return false
	}
	for _, flip := range []byte{1, 2, 0xff, 0x10} {
		for _, at := range []int{0, len(before) - 1} {
			v := bytes.Clone(before)
			v[at] ^= flip
			if linux.Setsockopt(fd, id.Level, id.Opt, v) != nil {
				continue
			}
			if after, ok := read(fd, id); ok && !bytes.Equal(before, after) {
				return true
			}
		}
	}
	return false
}

func read(fd int, id ID) ([]byte, bool) {
	buf := make([]byte, 256)
	n, err := linux.Getsockopt(fd, id.Level, id.Opt, buf)
	return buf[:min(max(n, 0), len(buf))], err == nil && n > 0
}
