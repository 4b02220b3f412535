package inet

import (
	"bytes"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// A listener that answers with the flow labels of its clients (IPV6_FL_F_REFLECT) gives
// each that of the segment by which the handshake ended, and that it does so. No option
// tells, so which bit that is is seen at a socket of our own; the label comes back by the
// segment that admits the client, see tcp.Waiting.

// reflection is the bit of a socket's memory that says that it answers so.
type reflection struct {
	at   int
	mask byte
}

// reflects finds that bit, if the listener answers so; else what waits can't.
func (h *passing) reflects() error {
	e := &extra.SocketEntry{}
	if err := h.l.readReflects(h.l.fd.Int(), e); err != nil || !e.GetReflects() {
		return err
	}
	n, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(n)
	before, err := h.memoryOf(n)
	if err != nil {
		return err
	}
	if err := linux.Setsockopt(n, unix.IPPROTO_IPV6, ipv6FlowlabelMgr, flowRequest{flags: flReflect}.bytes()); err != nil {
		return fmt.Errorf("%w: set IPV6_FL_F_REFLECT of a socket of our own, to learn where it is: %w", kmem.ErrUnavailable, err)
	}
	after, err := h.memoryOf(n)
	if err != nil {
		return err
	}
	for i := range before {
		switch d := before[i] ^ after[i]; {
		case d == 0:
		case bits.OnesCount8(d) > 1 || h.reflecting != nil:
			return fmt.Errorf("%w: where it is kept that a socket answers with flow labels isn't found", kmem.ErrUnavailable)
		default:
			h.reflecting = &reflection{i, d}
		}
	}
	if h.reflecting == nil || h.own[h.reflecting.at]&h.reflecting.mask == 0 {
		return fmt.Errorf("%w: that the listener answers with flow labels isn't seen", kmem.ErrUnavailable)
	}
	return nil
}

// memoryOf reads what counts of a socket of our own.
func (h *passing) memoryOf(n int) ([]byte, error) {
	at, err := h.mem.Sock(n)
	if err != nil {
		return nil, err
	}
	b := make([]byte, h.learnt.Size())
	return b, h.mem.ReadAt(b, at)
}

// setLabelAside takes from a client's memory the label that it answers with, and says if
// the listener does so only since it came.
func (h *passing) setLabelAside(memory []byte) string {
	r := h.reflecting
	if r == nil {
		return ""
	}
	if memory[r.at]&r.mask == 0 {
		return "the listener answers with flow labels (IPV6_FL_F_REFLECT) only since it came"
	}
	memory[r.at] &^= r.mask
	if label := int(h.mem.Off("tcp6_sock.inet6") + h.mem.Off("ipv6_pinfo.flow_label")); !bytes.Equal(memory[label:label+4], h.own[label:label+4]) {
		copy(memory[label:label+4], h.own[label:])
	}
	return ""
}
