package inet

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
)

// A socket may be bound to an address that the machine doesn't have, and that it
// could not be bound to any more: IP_FREEBIND or IP_TRANSPARENT were on, or the
// address was there, when it was. It gets it again by such an option, for the time
// of the call.

// abroad is an address, as a socket of this sort would be bound to it.
type abroad struct {
	family int
	ip     netip.Addr
	device string
}

// isForeign tells whether a new socket could not be bound to an address. A
// link-local one belongs to its interface.
func (k *Kind) isForeign(a abroad) (bool, error) {
	if !a.ip.IsValid() || a.ip.IsUnspecified() || a.ip.IsLinkLocalUnicast() || a.ip.IsMulticast() || a.ip.Unmap().IsLoopback() {
		return false, nil
	}
	if is, known := k.foreign[a]; known {
		return is, nil
	}
	n, err := unix.Socket(a.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("make a socket to look for an address with: %w", err)
	}
	defer unix.Close(n)
	if _, gone := socket.Gone(a.device); a.device != "" && !gone {
		if err := socket.BindToDevice(n, a.device); err != nil {
			return false, err
		}
	}
	err = unix.Bind(n, address{ip: a.ip}.sockaddr(a.family, 0))
	is := errors.Is(err, unix.EADDRNOTAVAIL)
	if err != nil && !is {
		return false, fmt.Errorf("bind to %v: %w", a.ip, err)
	}
	if k.foreign == nil {
		k.foreign = map[abroad]bool{}
	}
	k.foreign[a] = is
	return is, nil
}

// allowed are the options, each by either level, that let a socket have any
// address.
var allowed = []string{"IP_FREEBIND", "IPV6_FREEBIND", "IP_TRANSPARENT", "IPV6_TRANSPARENT"}

// checkForeign notes whether the socket has an address that it can't get by bind(2)
// alone. Of connections only those are looked at that are on no interface, see putLocal.
func (l *look) checkForeign() error {
	switch {
	case l.live():
		return nil
	case l.ended == nil:
		return l.noteForeign()
	}
	is, err := l.kind.isForeign(abroad{l.family, l.at.ip, l.opts.Entry.GetSoBoundDev()})
	if is {
		return l.refuse("its connection has ended, which it could only be told at an address that this machine has, and it has not %v: let the process close it first", l.at.ip)
	}
	return l.fail(err)
}

func (l *look) noteForeign() error {
	for _, name := range allowed {
		if l.value(name) != 0 {
			return nil
		}
	}
	is, err := l.kind.isForeign(abroad{l.family, l.at.ip, l.opts.Entry.GetSoBoundDev()})
	if is {
		if l.more == nil { // it has the options of another
			l.more = &extra.SocketEntry{}
		}
		l.more.Foreign = proto.Bool(true)
	}
	return l.fail(err)
}

// abroad tells whether the socket may have any address.
func (n *node) abroad() bool {
	for _, name := range allowed {
		if n.number(name) != 0 {
			return true
		}
	}
	return n.unseen.entry.GetForeign()
}

// checkForeign is that of a socket without ports.
func (l *bareLook) checkForeign(at netip.Addr) error {
	k, err := l.kind.kernel(l.sort)
	if err != nil {
		return err
	}
	for _, name := range allowed {
		if v, ok := k.Value(l.Opts.Values, name); ok && v.Lo != 0 {
			return nil
		}
	}
	is, err := l.kind.isForeign(abroad{l.family, at, l.Opts.Entry.GetSoBoundDev()})
	if is {
		l.More.Foreign = proto.Bool(true)
	}
	return err
}

// Options of include/uapi/linux/in6.h by family: the option that lets bind(2) take
// any address, and the one that lets connect(2) send from it, too.
var (
	freeBind    = map[int][2]int{unix.AF_INET: {unix.IPPROTO_IP, unix.IP_FREEBIND}, unix.AF_INET6: {unix.IPPROTO_IPV6, unix.IPV6_FREEBIND}}
	transparent = map[int][2]int{unix.AF_INET: {unix.IPPROTO_IP, unix.IP_TRANSPARENT}, unix.AF_INET6: {unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT}}
)

// abroad calls what needs such an option, which is off otherwise, if the socket is
// bound to an address that the machine doesn't have.
func (u *unseen) abroad(own int, option map[int][2]int, call func() error) error {
	if !u.entry.GetForeign() {
		return call()
	}
	opt := option[u.family]
	if err := unix.SetsockoptInt(own, opt[0], opt[1], 1); err != nil {
		return fmt.Errorf("set option %d of level %d: %w", opt[1], opt[0], err)
	}
	err := call()
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	if err := unix.SetsockoptInt(own, opt[0], opt[1], 0); err != nil {
		return fmt.Errorf("reset option %d of level %d: %w", opt[1], opt[0], err)
	}
	return err
}

// bindAt binds the socket.
func (u *unseen) bindAt(own int, at address, zone int) error {
	return u.abroad(own, freeBind, func() error {
		var room [28]byte
		return linux.Bind(own, at.raw(&room, u.family, zone))
	})
}

// connectTo connects the socket.
func (u *unseen) connectTo(own int, peer address, zone int) error {
	return u.abroad(own, transparent, func() error {
		if u.entry.GetFlowInfo() != 0 {
			return u.connectFlow(own, peer, zone)
		}
		return unix.Connect(own, peer.sockaddr(u.family, zone))
	})
}
