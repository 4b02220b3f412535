package linux

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Cmsg returns a control message for sendmsg(2), padded so that others can
// follow it. See cmsg(3).
func Cmsg(level, typ int, data []byte) []byte {
	ne := binary.NativeEndian
	b := make([]byte, unix.CmsgSpace(len(data)))
	ne.PutUint64(b, uint64(unix.CmsgLen(len(data)))) // struct cmsghdr of 64 bits
	ne.PutUint32(b[8:], uint32(level))
	ne.PutUint32(b[12:], uint32(typ))
	copy(b[unix.CmsgLen(0):], data)
	return b
}
