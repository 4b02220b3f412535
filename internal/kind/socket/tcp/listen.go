package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
)

// Info is what is to be known about a TCP socket that is not connected.
type Info struct {
	State   int
	Waiting int // connections to be accepted, of a listener
	Backlog int // of a listener
}

// Look asks for the state of a TCP socket. See TCP_INFO in tcp(7): of a
// listener, tcp_get_info() tells its queue in place of segments.
func Look(fd int) (Info, error) {
	i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return Info{}, fmt.Errorf("read TCP_INFO: %w", err)
	}
	info := Info{State: int(i.State)}
	if info.State == Listening {
		info.Waiting, info.Backlog = int(i.Unacked), int(i.Sacked)
	}
	return info, nil
}

// Refusal returns why a TCP socket that isn't connected can't be carried over,
// and what can be done; "" if it can.
func Refusal(fd int, info Info, protocol int) (string, error) {
	if info.State != Listening && info.State != Closed {
		return "TCP connections aren't supported yet; let the process close it first", nil
	}
	if protocol == unix.IPPROTO_MPTCP {
		return "", nil // it lets nothing be put on top, and has no keys
	}
	return Upper(fd)
}

// Upper says which protocol is on top of TCP, and that it can't be carried over;
// "" if none is.
func Upper(fd int) (string, error) {
	var name [16]byte // TCP_ULP_NAME_MAX
	n, err := linux.Getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_ULP, name[:])
	if errors.Is(err, unix.ENOPROTOOPT) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read TCP_ULP: %w", err)
	}
	if n == 0 {
		return "", nil
	}
	return fmt.Sprintf("the protocol %q is on top of it (TCP_ULP), which isn't supported yet", unix.ByteSliceToString(name[:n])), nil
}

// WhyKeptSyn is what KeptSyn says.
const WhyKeptSyn = "its first segment is kept (TCP_SAVE_SYN), which can't be put back; let the process read it (TCP_SAVED_SYN)"

// KeptSyn says that the connection's first segment waits to be read
// (TCP_SAVED_SYN), which nobody can put back; "" if it doesn't. To offer no room
// for it is to leave it there.
func KeptSyn(fd int) (string, error) {
	_, err := linux.Getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN, nil)
	if errors.Is(err, unix.EINVAL) {
		return WhyKeptSyn, nil
	}
	if err != nil {
		return "", fmt.Errorf("read TCP_SAVED_SYN: %w", err)
	}
	return "", nil
}

// CookieKey returns the keys for fast open of a socket, nil if there are none: its own, or
// those of its network namespace.
func CookieKey(fd int) ([]byte, error) {
	var key [32]byte // two of TCP_FASTOPEN_KEY_LENGTH
	n, err := linux.Getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, key[:])
	if errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP) { // as Multipath TCP says
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read TCP_FASTOPEN_KEY: %w", err)
	}
	return key[:n], nil
}

// Listen makes a bound socket listen.
func Listen(fd, backlog int) error { return socket.Listen(fd, backlog) }
