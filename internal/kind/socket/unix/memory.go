package unix

import (
	"encoding/binary"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

type sizeKey struct {
	typ    uint8
	length int
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
	s := sender{fd: pair[0], raised: new(bool)}
	if err := s.send(make([]byte, length), nil, typ == sys.SOCK_STREAM); err != nil {
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
