// Package optiontest asks the kernel which options sockets have, for tests:
// one that nobody has written down is a failing line, not a silent loss.
package optiontest

import (
	"bytes"
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

// last is the highest number of an option that is tried, by level. Beyond are
// those of tables of packets (iptables, multicast routing).
var last = map[int]int{
	unix.SOL_SOCKET: 127, unix.IPPROTO_IP: 63, unix.IPPROTO_IPV6: 79, unix.IPPROTO_TCP: 63, unix.IPPROTO_UDP: 110,
	unix.SOL_PACKET: 40, unix.SOL_NETLINK: 24,
}

// Complete fails for each option that a socket of this sort lets be read and
// set, and that is neither in the table nor among except, which gives a reason
// for each.
func Complete(t *testing.T, table socket.Table, except map[ID]string, like func() (int, error), levels ...int) {
	t.Helper()
	known := map[ID]bool{}
	for _, o := range table {
		known[ID{o.Level, o.Opt}] = true
	}
	found := 0
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
				found++
			case except[id] == "" && aliases[id] == "":
				t.Errorf("option %d of level %d can be read and set, and is not in the table", opt, level)
			}
		}
	}
	if found < len(table)/3 {
		t.Errorf("only %d of %d options were found", found, len(table))
	}
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
