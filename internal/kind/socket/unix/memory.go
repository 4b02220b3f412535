package unix

import (
	"encoding/binary"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
)

type sizeKey struct {
	typ    uint8
	length int
}

// compare holds the messages that were found against the memory that the
// peer's unread messages take. An empty message is shown to one peek only
// (Linux: skb->peeked), so there may be more than were found.
func (k *Kind) compare(l *look, messages [][]byte) error {
	peer, err := k.picture.get(l.u.Peer)
	if err != nil || peer == nil || !peer.HasMem {
		return err
	}
	sum := uint64(0)
	for _, m := range messages {
		n, err := k.size(l.u.Type, len(m))
		if err != nil {
			return err
		}
		sum += uint64(n)
	}
	if uint64(peer.Mem.WmemAlloc) > sum {
		return errHidden
	}
	return nil
}

// count is compare for a socket whose peer is closed and can't be asked.
func (k *Kind) count(l *look, messages [][]byte) error {
	n, err := k.queued(l)
	if errors.Is(err, sockmem.ErrUnavailable) {
		return fmt.Errorf("%w: whether there are isn't known (%w)", errHidden, err)
	}
	if err != nil {
		return err
	}
	if n != len(messages) {
		return errHidden
	}
	return nil
}

// size returns how much memory a message of that length takes in the kernel,
// by sending one.
func (k *Kind) size(typ uint8, length int) (uint32, error) {
	key := sizeKey{typ, length}
	if n, ok := k.sizes[key]; ok {
		return n, nil
	}
	pair, err := sys.Socketpair(sys.AF_UNIX, int(typ)|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make a pair to measure with: %w", err)
	}
	defer sys.Close(pair[0])
	defer sys.Close(pair[1])
	s := sender{fd: pair[0]}
	if err := s.send(make([]byte, length), false); err != nil {
		return 0, fmt.Errorf("measure a message of %d bytes: %w", length, err)
	}
	n, err := unread(pair[0])
	if err == nil {
		k.sizes[key] = n
	}
	return n, err
}

// unread returns the memory, in bytes, that messages take which a socket has
// sent and nobody has read. See SO_MEMINFO (Linux 4.12).
func unread(fd int) (uint32, error) {
	var buf [4 * sys.SK_MEMINFO_VARS]byte
	n, err := linux.Getsockopt(fd, sys.SOL_SOCKET, sys.SO_MEMINFO, buf[:])
	if err != nil || n < 4*sys.SK_MEMINFO_WMEM_ALLOC+4 {
		return 0, fmt.Errorf("read SO_MEMINFO (%d bytes): %w", n, err)
	}
	return binary.NativeEndian.Uint32(buf[4*sys.SK_MEMINFO_WMEM_ALLOC:]), nil
}
