package inet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// toldWith is what comes along with what is next in a queue, by level and type.
func toldWith(t *testing.T, n, flags int) (all []string) {
	t.Helper()
	var b, c [512]byte
	_, m, _, _, err := unix.Recvmsg(n, b[:], c[:], unix.MSG_DONTWAIT|flags)
	must(t, err)
	messages, err := unix.ParseSocketControlMessage(c[:m])
	must(t, err)
	for _, one := range messages {
		all = append(all, fmt.Sprintf("%d/%d % x", one.Header.Level, one.Header.Type, one.Data))
	}
	return all
}

// Datagrams that wait keep the time at which they came, in every form, and what is told
// of their checksums; those whose time nobody has asked for have none.
func TestQueuedStamps(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	const software, received = 1 << 4, 1 << 3 // SOF_TIMESTAMPING_SOFTWARE, SOF_TIMESTAMPING_RX_SOFTWARE
	noted(t)
	var all []int
	var want []string
	for _, ask := range [][2]int{{unix.SO_TIMESTAMP, 1}, {unix.SO_TIMESTAMPNS, 1}, {unix.SO_TIMESTAMPING, software | received}, {unix.SO_TIMESTAMPING, software}, {unix.SO_TIMESTAMP, 0}} {
		for _, s := range []sort{udp4, udp6} {
			for _, summed := range []bool{false, true} {
				n := stamped(t, s, ask, summed)
				told := toldWith(t, n, unix.MSG_PEEK)
				if len(told) == 0 && (ask[1] == software|received || summed && s == udp4) {
					t.Fatalf("%v %v %v: nothing is told", ask, s, summed)
				}
				all, want = append(all, n), append(want, fmt.Sprint(ask, s, summed, told))
			}
		}
	}
	in, err := dumped(t, &options.Dump{}, all...)
	must(t, err)
	for _, n := range all {
		must(t, unix.Close(n))
	}
	for id, n := range restored(t, in) {
		if got := fmt.Sprint(toldWith(t, n, 0)); !strings.HasSuffix(want[id-1], got) {
			t.Errorf("got %q, want %q", got, want[id-1])
		}
	}
}

// noted has the kernel note when packets come, which it begins to do some time after it
// is asked to.
func noted(t *testing.T) {
	t.Helper()
	d := udp4.bound(t, "127.0.0.1")
	must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 1<<4|1<<3))
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	must(t, arrived(func() (bool, error) {
		must(t, unix.Sendto(d.Int(), []byte("x"), 0, at))
		return len(toldWith(t, d.Int(), 0)) > 0, nil
	}))
}

// stamped is a socket at which a datagram waits: one whose checksum the kernel computes,
// or not.
func stamped(t *testing.T, s sort, ask [2]int, summed bool) int {
	t.Helper()
	ip := map[sort]string{udp4: "127.0.0.1", udp6: "::1"}[s]
	n, err := s.like()
	must(t, err)
	must(t, unix.Bind(n, address{ip: netip.MustParseAddr(ip)}.sockaddr(s.family, 0)))
	c := s.bound(t, ip)
	must(t, unix.SetsockoptInt(n, unix.SOL_SOCKET, ask[0], ask[1]))
	must(t, unix.SetsockoptInt(n, unix.IPPROTO_IP, unix.IP_CHECKSUM, 1))
	at, err := unix.Getsockname(n)
	must(t, err)
	if summed { // as one that no hardware has looked at
		from, err := unix.Getsockname(c.Int())
		must(t, err)
		be := binary.BigEndian
		body := be.AppendUint16(be.AppendUint16(nil, decode(from).port), decode(at).port)
		sent := datagram{from: decode(from).ip, to: decode(at).ip, hops: 64, body: append(body, 0, udpHeader+3, 0, 0, 'x', 'y', 'z')}
		must(t, sent.packet(unix.IPPROTO_UDP, 6).Send(sent.to))
	} else {
		must(t, unix.Sendto(c.Int(), []byte("xyz"), 0, at))
	}
	must(t, arrived(func() (bool, error) {
		n, err := unix.IoctlGetInt(n, unix.SIOCINQ)
		return n > 0, err
	}))
	return n
}
