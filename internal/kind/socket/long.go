package socket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
)

// Long is an option that has as many bytes as it was given: nothing, on a new
// socket.
type Long struct {
	Name       string
	Level, Opt int
	Most       int // bytes
}

// ReadLong returns those of the options that are set.
func ReadLong(fd int, all []Long) ([]*extra.SocketOption, error) {
	var out []*extra.SocketOption
	for _, o := range all {
		buf := make([]byte, o.Most)
		n, err := linux.Getsockopt(fd, o.Level, o.Opt, buf)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", o.Name, err)
		}
		if n > o.Most {
			return nil, fmt.Errorf("read %s: %d bytes, more than %d", o.Name, n, o.Most)
		}
		if n > 0 {
			out = append(out, &extra.SocketOption{Level: proto.Uint32(uint32(o.Level)), Name: proto.Uint32(uint32(o.Opt)), Value: buf[:n]})
		}
	}
	return out, nil
}

// CheckLong refuses options that are not among those a socket can have.
func CheckLong(all []Long, set []*extra.SocketOption) error {
	for _, x := range set {
		known := false
		for _, o := range all {
			known = known || uint32(o.Level) == x.GetLevel() && uint32(o.Opt) == x.GetName() && len(x.Value) > 0 && len(x.Value) <= o.Most
		}
		if !known {
			return fmt.Errorf("socket option %d of level %d, of %d bytes, can't be", x.GetName(), x.GetLevel(), len(x.Value))
		}
	}
	return nil
}

// SetLong sets what ReadLong has returned.
func SetLong(fd int, set []*extra.SocketOption) error {
	for _, x := range set {
		if err := linux.Setsockopt(fd, int(x.GetLevel()), int(x.GetName()), x.Value); err != nil {
			return fmt.Errorf("set option %d of level %d to %d bytes (it may need CAP_NET_RAW): %w", x.GetName(), x.GetLevel(), len(x.Value), err)
		}
	}
	return nil
}
