package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// A socket that is disconnected (connect(2) to AF_UNSPEC) keeps the error that nobody has
// read, or gets one, as it resets what was open, and has it also if it listens afterwards.

// Fault has a new socket, which is not bound yet, keep an error. end is the end of a connection
// which brings it, to nobody; connect connects the socket to a port of the loopback interface.
func Fault(fd int, end *End, connect func(port uint16) error) error {
	release, err := keepSizes(fd)
	if err != nil {
		return err
	}
	if end.Err == unix.ECONNABORTED { // as one in repair mode is told
		err = repair(fd, unix.TCP_REPAIR_ON)
	} else {
		err = end.makeAt(fd, connect)
	}
	if err != nil {
		return err
	}
	if err := linux.Connect(fd, binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC)); err != nil {
		return fmt.Errorf("disconnect: %w", err)
	}
	if end.Err == unix.ECONNABORTED {
		if err := repair(fd, unix.TCP_REPAIR_OFF_NO_WP); err != nil {
			return err
		}
	}
	return release()
}

// keepSizes keeps a socket's buffers from growing, as those of a connection do, until release
// is called.
func keepSizes(fd int) (release func() error, err error) {
	const both = 3 // SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK
	lock := linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_BUF_LOCK, Value: both}
	if err := lock.Set(fd); errors.Is(err, unix.ENOPROTOOPT) { // before Linux 5.14
		return func() error { return nil }, nil
	} else if err != nil {
		return nil, err
	}
	return func() error {
		lock.Value = 0
		return lock.Set(fd)
	}, nil
}

// makeAt is Make for a socket that has its address from connect(2).
func (e *End) makeAt(fd int, connect func(port uint16) error) error {
	if !e.Refused() {
		if err := repair(fd, unix.TCP_REPAIR_ON); err != nil {
			return err
		}
	}
	return e.Make(fd, func(port uint16) error {
		if err := connect(port); err != nil {
			return err
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return fmt.Errorf("getsockname: %w", err)
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			e.Local = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
		case *unix.SockaddrInet6:
			e.Local = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
		}
		return nil
	})
}
