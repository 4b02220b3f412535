package proc

import (
	"bytes"
	"os"
	"strconv"
)

// SocketsInUse tells how many sockets with an address this thread's network
// namespace has, by protocol as the kernel calls it ("UDP", "TCP6"), see
// /proc/net/sockstat in proc(5). A kernel without IPv6 names none of it.
func SocketsInUse() (map[string]int, error) {
	out := map[string]int{}
	for _, name := range []string{"sockstat", "sockstat6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + name)
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
