package netlink

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/netlock"
)

// What netfilter has done for a socket ends with it: packets are queued for it
// (NFQUEUE), packets are logged to it (NFLOG), or tables are its own.

// heard are files that say which sockets netfilter sends packets to: each line begins with
// a number of the program's choice and that of the socket.
var heard = []struct{ path, what string }{
	{"/proc/self/net/netfilter/nfnetlink_queue", "packets are queued for it (NFQUEUE"},
	{"/proc/self/net/netfilter/nfnetlink_log", "packets are logged to it (NFLOG"},
}

// checkNetfilter refuses a socket that netfilter does something for.
func checkNetfilter(p *socket.Plain, number uint32) error {
	if p.Protocol != unix.NETLINK_NETFILTER || number == 0 {
		return nil
	}
	for _, h := range heard {
		text, err := fd.ReadFile(h.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // without that module nobody has one
			return p.Fail(err)
		}
		if whose := heardBy(string(text), number); whose != "" {
			return p.Refuse("%s, number %s), which nobody else can ask for; let the program give that up, or end it", h.what, whose)
		}
	}
	table, err := netlock.Owned(number)
	if err != nil {
		return p.Fail(err)
	}
	if table != "" {
		return p.Refuse("table %q of nf_tables belongs to it (NFT_TABLE_F_OWNER), and would end with it; let the program remove that", table)
	}
	return nil
}

// heardBy returns what the line of a socket begins with, "" if it has none.
func heardBy(text string, number uint32) string {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == strconv.FormatUint(uint64(number), 10) {
			return f[0]
		}
	}
	return ""
}
