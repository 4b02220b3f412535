package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// TunLink is what a link of kind "tun" tells about itself: the IFLA_TUN_* of
// include/uapi/linux/if_link.h (Linux 4.20).
type TunLink struct {
	PI       bool // packets begin with struct tun_pi (IFF_NO_PI is off)
	Persist  bool
	Queues   int
	Disabled int // queues that are detached (TUNSETQUEUE)
}

// ReadTunLink asks for an interface of the calling thread's network namespace.
func ReadTunLink(index int) (TunLink, error) {
	nl, err := DialNetlink(unix.NETLINK_ROUTE, 0)
	if err != nil {
		return TunLink{}, err
	}
	q := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(q[4:], uint32(index))
	l, found := TunLink{}, false
	// A single answer has no end but that of an acknowledgement.
	err = nl.Ask(unix.RTM_GETLINK, netlink.Acknowledge, q, func(typ uint16, body []byte) error {
		if typ != unix.RTM_NEWLINK || len(body) < unix.SizeofIfInfomsg {
			return nil
		}
		found, err = l.read(body[unix.SizeofIfInfomsg:])
		return err
	})
	if err == nil && !found {
		err = errors.New("its link doesn't tell what it is (IFLA_TUN_PI, Linux 4.20)")
	}
	return l, errors.Join(err, nl.Close())
}

func (l *TunLink) read(attributes []byte) (found bool, err error) {
	each := func(d *netlink.AttributeDecoder) error {
		for d.Next() {
			if d.Type() == unix.IFLA_INFO_DATA {
				d.Nested(func(d *netlink.AttributeDecoder) error {
					for d.Next() {
						found = l.take(d) || found
					}
					return nil
				})
			}
		}
		return nil
	}
	d, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return false, err
	}
	for d.Next() {
		if d.Type() == unix.IFLA_LINKINFO {
			d.Nested(each)
		}
	}
	return found, d.Err()
}

// take takes one attribute, and tells whether it is the one that all have.
func (l *TunLink) take(d *netlink.AttributeDecoder) bool {
	const pi, persist, queues, disabled = 4, 6, 8, 9
	switch d.Type() {
	case pi:
		l.PI = d.Uint8() != 0
		return true
	case persist:
		l.Persist = d.Uint8() != 0
	case queues:
		l.Queues = int(d.Uint32())
	case disabled:
		l.Disabled = int(d.Uint32())
	}
	return false
}

// TunFilter returns how many instructions the filter of a tap has
// (TUNATTACHFILTER), or had; 0 if there never was one. EINVAL of a tun.
func TunFilter(fd int) (int, error) {
	var prog struct { // struct sock_fprog, whose pointer is of whoever set it
		len uint16
		_   uint64
	}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNGETFILTER, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return 0, fmt.Errorf("TUNGETFILTER: %w", e)
	}
	return int(prog.len), nil
}

// TunAttachFilter gives a tap a filter (TUNATTACHFILTER).
func TunAttachFilter(fd int, filter []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNATTACHFILTER, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return fmt.Errorf("TUNATTACHFILTER: %w", e)
	}
	return nil
}
