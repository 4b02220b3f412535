package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
)

// leastSegment is TCP_MIN_MSS of the kernel, below which TCP_MAXSEG can't be set.
const leastSegment = 88

// freshSegment is TCP_MSS_DEFAULT, what TCP_MAXSEG tells where nobody has set it.
const freshSegment = 536

// knowSegment finds out whether TCP_MAXSEG was set. If not, the option tells of a
// socket without a connection what the kernel last reckoned with: after a
// connection that failed, or for what goes with every packet (IP_OPTIONS).
func (l *look) knowSegment(k *socket.Kernel, values []socket.Value) error {
	fresh, ok := k.Value(k.Fresh, "TCP_MAXSEG")
	if !ok || l.protocol != unix.IPPROTO_TCP || l.live() || l.loneOf().connected() { // see knowLive
		return nil
	}
	n, err := unix.GetsockoptInt(l.fd.Int(), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	if err != nil {
		return fmt.Errorf("read TCP_MAXSEG: %w", err)
	}
	if uint64(n) == fresh.Lo {
		return nil
	}
	set, err := l.segmentSet()
	if errors.Is(err, kmem.ErrUnavailable) {
		set, err = n >= leastSegment, nil
	}
	if err == nil && !set {
		k.Know(values, "TCP_MAXSEG", fresh)
	}
	return err
}

// segmentSet tells whether the process has set TCP_MAXSEG.
func (l *look) segmentSet() (bool, error) {
	m, err := l.kind.memory()
	if err != nil {
		return false, err
	}
	at, err := m.Sock(l.fd.Int())
	if err != nil {
		return false, err
	}
	own, err := m.Struct("tcp_sock", at)
	if err != nil {
		return false, err
	}
	return own.In("tcp_sock.rx_opt").U16("tcp_options_received.user_mss") != 0, nil
}
