package unix

import (
	"bytes"
	"fmt"
	"strconv"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// maxName is the size of sun_path in bytes (UNIX_PATH_MAX).
const maxName = 108

// nameString returns an address as people write it: a path, "@name" for an
// abstract one, "unnamed".
func nameString(name []byte) string {
	switch {
	case len(name) == 0:
		return "unnamed"
	case name[0] == 0:
		return strconv.Quote("@" + string(name[1:]))
	}
	return strconv.Quote(string(name))
}

// peerName returns the name of a socket's peer, also of one that is closed;
// none if it has no name or there is no peer. See getpeername(2).
func peerName(fd int) ([]byte, error) {
	const family = 2 // bytes of sun_family
	var buf [family + maxName + 1]byte
	n, err := linux.Getpeername(fd, buf[:])
	switch {
	case err == sys.ENOTCONN:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("getpeername: %w", err)
	}
	name := buf[min(family, n):min(n, len(buf))]
	if len(name) > 0 && name[0] != 0 {
		name = bytes.TrimRight(name, "\x00") // of a path the kernel counts its end
	}
	return bytes.Clone(name), nil
}
