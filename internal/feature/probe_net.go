package feature

import (
	"context"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/un.h.
const siocUnixFile = 0x89e0

// socket gives a socket to use.
func socket(family, typ int, use func(fd int) error) error {
	n, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return conclude(err, "socket")
	}
	defer unix.Close(n)
	return use(n)
}

// socketNS asks for the network namespace of a socket.
func socketNS(context.Context) error {
	return socket(unix.AF_UNIX, unix.SOCK_STREAM, func(n int) error {
		return returnsFD(n, unix.SIOCGSKNS, "ioctl(SIOCGSKNS)")
	})
}

// returnsFD does an ioctl(2) that returns a descriptor.
func returnsFD(fd int, request uint, call string) error {
	n, err := unix.IoctlRetInt(fd, request)
	if err == nil {
		unix.Close(n)
	}
	return conclude(err, call)
}

// socketFile asks for the file of a unix socket that has none: ENOENT, if the
// request is known.
func socketFile(context.Context) error {
	return socket(unix.AF_UNIX, unix.SOCK_STREAM, func(n int) error {
		if _, err := unix.IoctlRetInt(n, siocUnixFile); err != unix.ENOENT {
			return conclude(err, "ioctl(SIOCUNIXFILE)")
		}
		return nil
	})
}

func sockoptBufLock(context.Context) error {
	return socket(unix.AF_UNIX, unix.SOCK_STREAM, func(n int) error {
		_, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
		return conclude(err, "getsockopt(SO_BUF_LOCK)")
	})
}

func ipv6Freebind(context.Context) error {
	return socket(unix.AF_INET6, unix.SOCK_DGRAM, func(n int) error {
		_, err := unix.GetsockoptInt(n, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND)
		return conclude(err, "getsockopt(IPV6_FREEBIND)")
	})
}

// tcpHalfClosed makes a connection with nobody, in repair mode, closes half
// of it and enters repair mode again. No segment leaves: what would be sent
// goes to the queue under repair, and closing in repair mode is silent.
func tcpHalfClosed(context.Context) error {
	const sendQueue = 2 // TCP_SEND_QUEUE
	return socket(unix.AF_INET, unix.SOCK_STREAM, func(n int) error {
		home := unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		peer := home
		peer.Port = 9
		steps := []struct {
			name string
			do   func() error
		}{
			{"setsockopt(TCP_REPAIR)", func() error { return unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) }},
			{"setsockopt(TCP_REPAIR_QUEUE)", func() error { return unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, sendQueue) }},
			{"bind to 127.0.0.1", func() error { return unix.Bind(n, &home) }},
			{"connect in repair mode", func() error { return unix.Connect(n, &peer) }},
			{"shutdown in repair mode", func() error { return unix.Shutdown(n, unix.SHUT_WR) }},
			{"setsockopt(TCP_REPAIR) of a half-closed connection", func() error { return unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) }},
		}
		for _, s := range steps {
			if err := s.do(); err != nil {
				return conclude(err, s.name)
			}
		}
		return nil
	})
}

// openTun gives a TUN file that no device belongs to.
func openTun(use func(fd int) error) error {
	n, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return conclude(err, "/dev/net/tun")
	}
	defer unix.Close(n)
	return use(n)
}

func tun(context.Context) error {
	return openTun(func(n int) error {
		_, err := unix.IoctlGetInt(n, unix.TUNGETFEATURES)
		return conclude(err, "ioctl(TUNGETFEATURES)")
	})
}

func tunNS(context.Context) error {
	return openTun(func(n int) error { return returnsFD(n, unix.SIOCGSKNS, "ioctl(SIOCGSKNS) of a TUN file") })
}

// diagRaw lists raw sockets through sock_diag(7).
func diagRaw(context.Context) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := make([]byte, 56) // struct inet_diag_req_v2
		request[0], request[1] = family, unix.IPPROTO_RAW
		if err := netlinkAsk(unix.NETLINK_SOCK_DIAG, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, request); err != nil {
			return conclude(err, "a list of raw sockets by sock_diag")
		}
	}
	return nil
}

// nsid asks for the number that the engine's network namespace gives to
// itself: none, but known to the kernel as a question.
func nsid(context.Context) error {
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return conclude(err, "network namespaces")
	}
	defer f.Close()
	request := make([]byte, 12) // struct rtgenmsg, padded, and one attribute
	binary.NativeEndian.PutUint16(request[4:], 8)
	binary.NativeEndian.PutUint16(request[6:], unix.NETNSA_FD)
	binary.NativeEndian.PutUint32(request[8:], uint32(f.Fd()))
	return conclude(netlinkAsk(unix.NETLINK_ROUTE, unix.RTM_GETNSID, 0, request), "RTM_GETNSID")
}

// nftables asks for the generation of the rules.
func nftables(context.Context) error {
	const getGen = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
	return conclude(netlinkAsk(unix.NETLINK_NETFILTER, getGen, 0, make([]byte, 4)), "nf_tables")
}

// netlinkAsk sends one request and returns the error in the first reply.
func netlinkAsk(protocol int, typ uint16, flags uint16, payload []byte) error {
	n, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(n)
	m := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(payload))
	binary.NativeEndian.PutUint32(m, uint32(cap(m)))
	binary.NativeEndian.PutUint16(m[4:], typ)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|flags)
	m = append(m, payload...)
	// The kernel answers within the call; the time is for one that does not.
	if err := unix.SetsockoptTimeval(n, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	if err := unix.Sendto(n, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	reply := make([]byte, 8192)
	got, _, err := unix.Recvfrom(n, reply, 0)
	if err != nil {
		return err
	}
	return netlinkError(reply[:got])
}

// netlinkError returns what an error message says; nil for any other.
func netlinkError(m []byte) error {
	if len(m) < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(m[4:]) != unix.NLMSG_ERROR {
		return nil
	}
	if e := int32(binary.NativeEndian.Uint32(m[unix.NLMSG_HDRLEN:])); e < 0 {
		return unix.Errno(-e)
	}
	return nil
}
