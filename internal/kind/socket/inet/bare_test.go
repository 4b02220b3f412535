package inet

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/options"
)

func rawSocket(t *testing.T, family, protocol int) *fd.FD {
	t.Helper()
	n, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	must(t, err)
	d := fd.New(n)
	t.Cleanup(func() { d.Close() })
	return d
}

const mrtInit = 200 // MRT_INIT of include/uapi/linux/mroute.h

func TestBareRefused(t *testing.T) {
	const experiment = 253 // a protocol that nobody speaks
	for want, prepare := range map[string]func(d *fd.FD){
		"in its queue": func(d *fd.FD) {
			must(t, unix.Sendto(d.Int(), []byte("x"), 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(d.Int()), Events: unix.POLLIN}}, -1)
			must(t, err)
		},
	} {
		d := rawSocket(t, unix.AF_INET, experiment)
		prepare(d)
		refused(t, options.NewDump(), d.Int(), want)
	}
	routes := rawSocket(t, unix.AF_INET, unix.IPPROTO_IGMP)
	must(t, linux.SockOpt{Level: unix.IPPROTO_IP, Name: mrtInit, Value: 1}.Set(routes.Int()))
	refused(t, options.NewDump(), routes.Int(), "MRT_INIT")
	six := rawSocket(t, unix.AF_INET6, unix.IPPROTO_RAW)
	must(t, unix.SetsockoptInt(six.Int(), unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT, 5))
	refused(t, options.NewDump(), six.Int(), "IP_ROUTER_ALERT")
	// A look for alerts leaves none.
	plain := rawSocket(t, unix.AF_INET, experiment)
	for range 2 {
		if alerted(plain.Int(), unix.AF_INET) {
			t.Error("a socket gets router alerts that it never asked for")
		}
	}
}

func TestBareNonsense(t *testing.T) {
	entry := func(change func(in *sk_inet.InetSkEntry)) *fdinfo.FileEntry {
		number := proto.Uint32
		in := &sk_inet.InetSkEntry{
			Id: number(1), Family: number(unix.AF_INET), Type: number(unix.SOCK_RAW), Proto: number(unix.IPPROTO_ICMP), State: number(closed),
			SrcAddr: []uint32{0}, DstAddr: []uint32{0}, SrcPort: number(1), DstPort: number(0), Flags: number(2), Backlog: number(0),
		}
		change(in)
		return &fdinfo.FileEntry{Id: number(1), Isk: in}
	}
	for want, change := range map[string]func(in *sk_inet.InetSkEntry){
		"called":       func(in *sk_inet.InetSkEntry) { in.Id = proto.Uint32(2) },
		"AF_UNIX":      func(in *sk_inet.InetSkEntry) { in.Family = proto.Uint32(unix.AF_UNIX) },
		"state":        func(in *sk_inet.InetSkEntry) { in.State = proto.Uint32(listening) },
		"protocol 263": func(in *sk_inet.InetSkEntry) { in.Proto = proto.Uint32(263) },
		"of 0 words":   func(in *sk_inet.InetSkEntry) { in.SrcAddr = nil },
		"ICMPV6_FILTER": func(in *sk_inet.InetSkEntry) {
			in.Family, in.Proto = proto.Uint32(unix.AF_INET6), proto.Uint32(unix.IPPROTO_ICMPV6)
			in.IpOpts = &sk_inet.IpOptsEntry{Raw: &sk_inet.IpOptsRawEntry{IcmpvFilter: []uint32{1}}}
		},
	} {
		if err := New().planBare(nil, entry(change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
