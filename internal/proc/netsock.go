package proc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"glis.dev/glis/internal/fd"
)

// NetSocket is a line of /proc/net/raw, raw6, icmp or icmp6.
type NetSocket struct {
	Local, Remote netip.AddrPort // the port of a raw socket is its protocol
	State         uint8          // as in include/net/tcp_states.h: 7 if it is not connected
	Queued        uint32         // bytes of memory that wait to be read
	Inode         uint64
}

// NetSockets reads the raw or ping sockets of this thread's network namespace,
// see proc(5): name is "raw", "raw6", "icmp" or "icmp6". A kernel without IPv6
// has none, which is no error.
func NetSockets(name string) ([]NetSocket, error) {
	b, err := fd.ReadFile(filepath.Join("/proc/thread-self/net", name))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseNetSockets("net/"+name, b)
}

func parseNetSockets(file string, b []byte) (out []NetSocket, err error) {
	err = eachLine(file, bytes.ToLower(b), func(t *text) {
		if t.line == 1 { // names of the columns
			t.rest()
			return
		}
		t.blanks()
		t.dec("a slot")
		t.lit(":")
		s := NetSocket{Local: t.endpoint(), Remote: t.endpoint(), State: uint8(t.number16("a state", 0xff))}
		t.blanks()
		t.hex32("a queue")
		t.lit(":")
		s.Queued = t.hex32("a queue")
		for range 2 { // timer, retransmissions
			t.blanks()
			t.word("a column")
		}
		for range 2 { // uid, timeout
			t.blanks()
			t.int64("a number")
		}
		t.blanks()
		s.Inode = t.dec("an inode")
		t.rest()
		out = append(out, s)
	})
	return out, err
}

func (t *text) number16(want string, limit uint64) uint64 {
	t.blanks()
	return t.number(16, limit, want)
}

// endpoint is an address in words of this machine, and a port.
func (t *text) endpoint() netip.AddrPort {
	t.blanks()
	const want = "an address and a port"
	ip, port, ok := bytes.Cut(t.word(want), []byte(":"))
	raw, err := hex.AppendDecode(nil, ip)
	n, perr := hex.AppendDecode(nil, port)
	if !ok || err != nil || perr != nil || len(n) != 2 || len(raw) != 4 && len(raw) != 16 {
		t.fail(want)
		return netip.AddrPort{}
	}
	for w := raw; len(w) > 0; w = w[4:] {
		w[0], w[1], w[2], w[3] = w[3], w[2], w[1], w[0]
	}
	a, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(n[0])<<8|uint16(n[1]))
}

// String is the socket's two ends.
func (s NetSocket) String() string { return fmt.Sprintf("%v -> %v", s.Local, s.Remote) }
