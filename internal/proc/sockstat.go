package proc

import (
	"bytes"
	"os"
	"strconv"

	"glis.dev/glis/internal/fd"
)

// SocketsInUse tells how many sockets with an address this thread's network
// namespace has, by protocol as the kernel calls it ("UDP", "TCP6"), see
// /proc/net/sockstat in proc(5). A kernel without IPv6 names none of it.
func SocketsInUse() (map[string]int, error) {
	out := map[string]int{}
	for _, name := range []string{"sockstat", "sockstat6"} {
		b, err := fd.ReadFile("/proc/thread-self/net/" + name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		parseSockstat(b, out)
	}
	return out, nil
}

// parseSockstat adds what lines like "UDP: inuse 3 mem 0" tell, and passes over
// all others.
func parseSockstat(b []byte, out map[string]int) {
	for line := range bytes.Lines(b) {
		name, rest, ok := bytes.Cut(line, []byte(": inuse "))
		if !ok {
			continue
		}
		if f := bytes.Fields(rest); len(f) > 0 {
			if n, err := strconv.Atoi(string(f[0])); err == nil {
				out[string(name)] = n
			}
		}
	}
}

// Orphans tells how many TCP connections in this thread's network namespace have no
// descriptor any more: they still have something to send, or wait for the peer's end.
// See sockstat in proc(5).
func Orphans() (int, error) {
	b, err := fd.ReadFile("/proc/thread-self/net/sockstat")
	if err != nil {
		return 0, err
	}
	return parseOrphans(b), nil
}

// parseOrphans finds the number in a line like "TCP: inuse 4 orphan 0 tw 1".
func parseOrphans(b []byte) int {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 2 || string(f[0]) != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			if n, err := strconv.Atoi(string(f[i+1])); err == nil && string(f[i]) == "orphan" {
				return n
			}
		}
	}
	return 0
}
