package inet

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
)

// alert is a router alert (RFC 2113), and spare some options that do nothing.
var alert, spare = []byte{0x94, 4, 0, 0}, []byte{1, 1, 1, 0}

func setHeaders(t *testing.T, n int, opts []byte) {
	t.Helper()
	must(t, linux.Setsockopt(n, unix.IPPROTO_IP, unix.IP_OPTIONS, opts))
}

func headersOf(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, 40)
	size, err := linux.Getsockopt(n, unix.IPPROTO_IP, unix.IP_OPTIONS, b)
	must(t, err)
	return b[:size]
}

// What goes with every packet of a connection (IP_OPTIONS) does so afterwards, also
// where the size of segments is worked out anew. What is sent arrives.
func TestHeadersOfConnection(t *testing.T) {
	for name, x := range map[string]struct {
		sort sort
		ip   string
		move []int
		send int // bytes that wait meanwhile
	}{
		"both ends":      {tcp4, "127.0.0.1", []int{0, 1}, 0},
		"one end":        {tcp4, "127.0.0.1", []int{1}, 0},
		"with a queue":   {tcp4, "127.0.0.1", []int{0, 1}, 3000},
		"of IPv6 socket": {tcp6, "::ffff:127.0.0.1", []int{0, 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := paired(t, x.sort, x.ip)
			p.notAlone = true
			setHeaders(t, p.ends[0].Int(), alert)
			setHeaders(t, p.ends[1].Int(), spare)
			p.send(t, 0, x.send)
			p.move(t, x.move...)
			for i, want := range [][]byte{alert, spare} {
				if got := headersOf(t, p.ends[i].Int()); !slices.Equal(got, want) {
					t.Errorf("end %d has %x, want %x", i, got, want)
				}
			}
			p.send(t, 1, 100_000)
			p.drain(t, 0)
			p.drain(t, 1)
		})
	}
}

// The end of a connection that has ended has them, too.
func TestHeadersOfEnded(t *testing.T) {
	p := paired(t, tcp4, "127.0.0.1")
	setHeaders(t, p.ends[1].Int(), alert)
	abort(t, p.ends[0])
	p.await(t, 1, tcp.Closed)
	n := same(t, p.sort, p.ends[1])[0]
	if got := headersOf(t, n); !slices.Equal(got, alert) {
		t.Errorf("it has %x, want %x", got, alert)
	}
}
