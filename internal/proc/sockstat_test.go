package proc

import (
	"net"
	"testing"
)

func TestSocketsInUse(t *testing.T) {
	got := map[string]int{}
	parseSockstat([]byte("sockets: used 12\nTCP: inuse 5 orphan 0\nUDP: inuse 7 mem 1\nRAW: inuse x\nFRAG: inuse\nUDP6: inuse 2\n"), got)
	if len(got) != 3 || got["TCP"] != 5 || got["UDP"] != 7 || got["UDP6"] != 2 {
		t.Error(got)
	}
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing was sent
	now, err := SocketsInUse()
	if err != nil || now["UDP"] < 1 {
		t.Error(now, err)
	}
}

func TestParseOrphans(t *testing.T) {
	for text, want := range map[string]int{
		"sockets: used 10\nTCP: inuse 1 orphan 7 tw 0 alloc 1 mem 67\nUDP: inuse 0 mem 0\n": 7,
		"TCP: inuse 1 orphan\n": 0, "TCP: inuse 1 orphan x\n": 0, "UDP: orphan 3\n": 0, "TCP:": 0, "": 0,
	} {
		if n := parseOrphans([]byte(text)); n != want {
			t.Errorf("%q: %d, want %d", text, n, want)
		}
	}
}
