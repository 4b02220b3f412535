package inet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

func refused(t *testing.T, o *options.Dump, n int, want string) {
	t.Helper()
	_, err := dumped(t, o, n)
	if !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), want) {
		if err != nil {
			testkit.NotShown(t, err.Error())
		}
		t.Errorf("error %v, want one with %q", err, want)
	}
}

// client connects to a listener.
func client(t testing.TB, s sort, listener int) *fd.FD {
	t.Helper()
	sa, err := unix.Getsockname(listener)
	must(t, err)
	c := s.make(t)
	must(t, unix.Connect(c.Int(), sa))
	return c
}

func TestRefused(t *testing.T) {
	listener := func(t *testing.T) *fd.FD {
		d := tcp4.bound(t, "127.0.0.1")
		must(t, unix.Listen(d.Int(), 5))
		return d
	}
	tests := []struct {
		name string
		want string
		make func(t *testing.T) int
	}{
		{"waiting client", "1 connection waits to be accepted", func(t *testing.T) int {
			d := listener(t)
			client(t, tcp4, d.Int())
			return d.Int()
		}},
		{"deferred client", "1 connection waits to be accepted", func(t *testing.T) int {
			d := listener(t)
			must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60))
			client(t, tcp4, d.Int())
			return d.Int()
		}},
		{"client of a locked chooser", "SO_LOCK_FILTER", func(t *testing.T) int {
			d := locked(t, true)
			client(t, tcp4, d.Int())
			return d.Int()
		}},
		{"ended behind urgent data", "urgent data waits", func(t *testing.T) int {
			p := paired(t, tcp4, "127.0.0.1")
			p.send(t, 0, 100)
			must(t, unix.Send(p.ends[0].Int(), []byte("!"), unix.MSG_OOB))
			p.send(t, 0, 50)
			abort(t, p.ends[0])
			p.await(t, 1, tcp.Closed)
			return p.ends[1].Int()
		}},
		{"connection", "--tcp-established", func(t *testing.T) int { return client(t, tcp4, listener(t).Int()).Int() }},
		{"multipath", "GODEBUG=multipathtcp=0", func(t *testing.T) int {
			d := mptcp4.bound(t, "127.0.0.1")
			must(t, unix.Listen(d.Int(), 5))
			return client(t, mptcp4, d.Int()).Int()
		}},
		{"multipath that fell back", "GODEBUG=multipathtcp=0", func(t *testing.T) int {
			c := client(t, mptcp4, listener(t).Int())
			if err := unix.SetsockoptInt(c.Int(), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); !errors.Is(err, unix.ENOPROTOOPT) {
				t.Errorf("it could be repaired: %v", err)
			}
			return c.Int()
		}},
		{"part of a datagram with a time stamp to come", "no packet brought", func(t *testing.T) int {
			c := client(t, udp4, udp4.bound(t, "127.0.0.1").Int())
			const txSoftware, report = 1 << 1, 1 << 4 // SOF_TIMESTAMPING_*
			must(t, unix.SetsockoptInt(c.Int(), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, txSoftware|report))
			must(t, unix.Sendmsg(c.Int(), []byte("x"), nil, nil, 0))
			return c.Int()
		}},
		{"part of a datagram with a flow label", "a flow label of its own", func(t *testing.T) int {
			c := udp6.make(t)
			sa, err := unix.Getsockname(udp6.bound(t, "::1").Int())
			must(t, err)
			l := label(0x777, shareAny, 0, 0)
			lease(t, c.Int(), l)
			flowing(t, c.Int(), decode(sa), 0x777, 1)
			_, err = unix.SendmsgN(c.Int(), []byte("x"), nil, nil, unix.MSG_MORE)
			must(t, err)
			put := leaseOf(l)
			put[20] = 1 // IPV6_FL_A_PUT: what is sent from now on has none
			must(t, unix.SetsockoptString(c.Int(), unix.IPPROTO_IPV6, ipv6FlowlabelMgr, string(put)))
			return c.Int()
		}},
		{"part of a datagram that was turned to IPv4", "connected over IPv4", func(t *testing.T) int {
			c := udp6.make(t)
			must(t, unix.Connect(c.Int(), &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: 9}))
			must(t, unix.Send(c.Int(), []byte("x"), unix.MSG_MORE))
			must(t, unix.Connect(c.Int(), &unix.SockaddrInet6{Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16(), Port: 9}))
			return c.Int()
		}},
		{"options of a datagram", "IP_RECVOPTS", func(t *testing.T) int {
			d := udp4.bound(t, "127.0.0.1")
			must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IP, unix.IP_RECVOPTS, 1))
			must(t, unix.SetsockoptString(d.Int(), unix.IPPROTO_IP, unix.IP_OPTIONS, "\x07\x07\x04\x00\x00\x00\x00\x00")) // record route
			sa, err := unix.Getsockname(d.Int())
			must(t, err)
			must(t, unix.Sendto(d.Int(), []byte("hello"), 0, sa))
			return d.Int()
		}},
		{"multicast group of TCP", "multicast group", func(t *testing.T) int {
			d := tcp4.make(t)
			m := &unix.IPMreq{Multiaddr: [4]byte{232, 1, 2, 3}, Interface: [4]byte{127, 0, 0, 1}}
			source := append(append(m.Multiaddr[:], m.Interface[:]...), 127, 0, 0, 9) // struct ip_mreq_source
			must(t, unix.SetsockoptString(d.Int(), unix.IPPROTO_IP, unix.IP_ADD_SOURCE_MEMBERSHIP, string(source)))
			return d.Int()
		}},
		{"no headers", "IPV6_2292PKTOPTIONS", func(t *testing.T) int {
			d := udp6.make(t)
			must(t, unix.SetsockoptString(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_2292PKTOPTIONS, "\x00\x00\x00\x00"))
			return d.Int()
		}},
		{"tunnel", "UDP_ENCAP 3", func(t *testing.T) int {
			d := udp4.bound(t, "127.0.0.1")
			must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_L2TPINUDP))
			return d.Int()
		}},
		{"repaired", "repair mode", func(t *testing.T) int {
			d := tcp4.make(t)
			must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1))
			return d.Int()
		}},
		{"keys of TCP-AO", "TCP_AO_ADD_KEY", func(t *testing.T) int {
			d := listener(t)
			key := make([]byte, 288) // struct tcp_ao_add of include/uapi/linux/tcp.h (Linux 6.7)
			copy(key, "\x02\x00\x00\x00\x7f\x00\x00\x01")
			copy(key[128:], "hmac(sha1)")
			const addKey, prefix, length = 38, 202, 207 // TCP_AO_ADD_KEY
			key[prefix], key[length] = 32, 6
			copy(key[length+1:], "secret")
			testkit.Lacks(t, "TCP-AO", unix.SetsockoptString(d.Int(), unix.IPPROTO_TCP, addKey, string(key)), unix.ENOPROTOOPT)
			return d.Int()
		}},
		{"without copies", "MSG_ZEROCOPY", func(t *testing.T) int {
			c := client(t, tcp4, listener(t).Int())
			must(t, unix.SetsockoptInt(c.Int(), unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1))
			must(t, unix.Sendto(c.Int(), []byte("x"), unix.MSG_ZEROCOPY, nil))
			return c.Int()
		}},
	}
	// What is said where the kernel's memory can't be read; "" if it is not noticed then.
	blind := map[string]string{
		"part of a datagram with a flow label": "what can't be known", "part of a datagram with a time stamp to come": "what can't be known",
		"without copies": "can't be known", "keys of TCP-AO": "can't be known",
	}
	_, unknown := New().memory()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if says, ok := blind[tt.name]; ok && unknown != nil {
				if tt.want = says; says == "" {
					testkit.KernelMemory(t, unknown)
				}
			}
			refused(t, &options.Dump{}, tt.make(t), tt.want)
		})
	}
}
