package packet

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/sockdiag"
)

// A socket whose interface is gone hears nothing, and is told so once, as of one that went
// down. It can only come to that in the same way: by an interface that is there for a
// moment, and is never up.

// gone is the number of an interface that is no more.
const gone = -1

// gone tells whether the socket's is.
func (n *node) gone() bool { return int32(n.entry.GetIfindex()) == gone && !n.old() }

// checkGone refuses one with what needs an interface.
func checkGone(p *socket.Plain, known *sockdiag.Packet) error {
	sa, err := unix.Getsockname(p.FD.Int())
	at, ok := sa.(*unix.SockaddrLinklayer)
	if err != nil || !ok || at.Ifindex != gone {
		return p.Fail(err)
	}
	if known.Rx != nil || known.Tx != nil || known.Fanout != nil {
		return p.Refuse("its interface is gone, and it has a ring or is of a group (PACKET_FANOUT), which need one: let the process close it")
	}
	return nil
}

// bindGone binds a socket to an interface that goes then.
func bindGone(own int, protocol uint16) error {
	return passes(func(index int) error {
		if err := unix.Bind(own, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index}); err != nil {
			return fmt.Errorf("bind to interface %d: %w", index, err)
		}
		return nil
	})
}

// passes makes an interface for as long as do lasts.
func passes(do func(index int) error) error {
	n, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make an interface that goes again: /dev/net/tun: %w", err)
	}
	return errors.Join(doAt(n, do), unix.Close(n))
}

func doAt(tun int, do func(index int) error) error {
	r, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(tun, unix.TUNSETIFF, r); err != nil {
		return fmt.Errorf("make an interface that goes again: TUNSETIFF (it needs CAP_NET_ADMIN): %w", err)
	}
	i, err := net.InterfaceByName(r.Name())
	if err != nil {
		return fmt.Errorf("find interface %q: %w", r.Name(), err)
	}
	return do(i.Index)
}
