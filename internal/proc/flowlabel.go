package proc

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"

	"glis.dev/glis/internal/fd"
)

// FlowLabel is a line of /proc/net/ip6_flowlabel: a label that sockets of this network
// namespace have leased, or had a moment ago.
type FlowLabel struct {
	Label   uint32
	Share   uint8  // IPV6_FL_S_* of include/uapi/linux/in6.h
	Owner   uint32 // a process or user, of labels that only such may lease; else 0
	Users   int32  // leases; 0 if it isn't given to others yet
	Linger  int64  // seconds
	Expires int64  // seconds from now on, negative if it has
	Peer    netip.Addr
	Headers uint64 // bytes
}

// FlowLabels reads the flow labels of this thread's network namespace, see
// net/ipv6/ip6_flowlabel.c. A kernel without IPv6 has none, which is no error.
func FlowLabels() ([]FlowLabel, error) {
	b, err := fd.ReadFile("/proc/thread-self/net/ip6_flowlabel")
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseFlowLabels(b)
}

func parseFlowLabels(b []byte) (out []FlowLabel, err error) {
	err = eachLine("net/ip6_flowlabel", bytes.ToLower(b), func(t *text) {
		if t.line == 1 { // names of the columns
			t.rest()
			return
		}
		out = append(out, t.flowLabel())
	})
	return out, err
}

func (t *text) flowLabel() (f FlowLabel) {
	t.blanks()
	f.Label = uint32(t.number(16, 0xfffff, "a label"))
	t.blanks()
	f.Share = uint8(t.number(10, 0xff, "a share"))
	t.blanks()
	f.Owner = uint32(t.int64("an owner")) // an uid is written as an int
	t.blanks()
	f.Users = t.int32("users")
	t.blanks()
	f.Linger = t.int64("seconds")
	t.blanks()
	f.Expires = t.int64("seconds")
	t.blanks()
	raw, err := hex.DecodeString(string(t.word("an address")))
	if f.Peer, _ = netip.AddrFromSlice(raw); err != nil || !f.Peer.Is6() {
		t.fail("an address")
	}
	t.blanks()
	f.Headers = t.dec("bytes")
	t.rest() // blanks
	return f
}
