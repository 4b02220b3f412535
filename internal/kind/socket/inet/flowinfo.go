package inet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// What a socket of IPv6 sends to its peer has the flow label and the class that connect(2)
// was given, if IPV6_FLOWINFO_SEND was on then; that it is on tells getpeername(2) of them.

// mostFlowInfo is IPV6_FLOWINFO_MASK of include/net/ipv6.h.
const mostFlowInfo = 0x0fffffff

// connectFlow connects a socket with what it is to send.
func (u *unseen) connectFlow(own int, peer address, zone int) error {
	was, err := unix.GetsockoptInt(own, unix.IPPROTO_IPV6, ipv6FlowinfoSend)
	if err != nil {
		return fmt.Errorf("read IPV6_FLOWINFO_SEND: %w", err)
	}
	send := linux.SockOpt{Level: unix.IPPROTO_IPV6, Name: ipv6FlowinfoSend, Value: 1}
	if err := send.Set(own); err != nil {
		return err
	}
	var room [28]byte
	to := peer.raw(&room, u.family, zone)
	binary.BigEndian.PutUint32(to[4:], u.entry.GetFlowInfo()) // struct sockaddr_in6
	err = linux.Connect(own, to)
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("with flow label %#x (another program has one of its own, IPV6_FLOWLABEL_MGR, since when each must be asked for): %w", u.entry.GetFlowInfo(), err)
	}
	send.Value = was
	return errors.Join(err, send.Set(own))
}
