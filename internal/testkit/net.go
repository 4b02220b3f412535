package testkit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Net is a network namespace that tests have something in.
type Net struct {
	calls chan func() // nil: that of the test itself
	fd    int         // of the namespace
}

// Here is the namespace of the test itself, which is Glis's, too.
func Here() *Net { return &Net{fd: -1} }

// NewNet makes a namespace, with its loopback interface up, for as long as the
// test lasts.
func NewNet(t testing.TB) *Net {
	t.Helper()
	n := &Net{calls: make(chan func()), fd: -1}
	ready := make(chan error)
	OnThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ready <- err
		for f := range n.calls {
			f()
		}
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.calls); unix.Close(n.fd) })
	n.Up(t, "lo")
	return n
}

// The first thread is for the goroutine that runs all tests: a test that takes its
// thread to another namespace, and never gives it back, must not have that one.
func init() { runtime.LockOSThread() }

// OnThread runs f on a thread of its own, which ends with it. It is never the first
// one of the process, whose namespaces /proc shows as those of all, and which can't
// end.
func OnThread(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		defer runtime.UnlockOSThread()
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			f()
		}()
		<-done
	}()
}

// Do runs f on a thread that is in the namespace.
func (n *Net) Do(f func()) {
	if n.calls == nil {
		f()
		return
	}
	done := make(chan struct{})
	n.calls <- func() { defer close(done); f() }
	<-done
}

// links sends a request of rtnetlink(7) from within the namespace.
func (n *Net) links(t testing.TB, typ netlink.HeaderType, flags netlink.HeaderFlags, head []byte, attrs func(*netlink.AttributeEncoder)) {
	t.Helper()
	e := netlink.NewAttributeEncoder()
	attrs(e)
	body, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	n.Do(func() {
		var c *netlink.Conn
		if c, err = netlink.Dial(unix.NETLINK_ROUTE, nil); err != nil {
			return
		}
		defer c.Close()
		_, err = c.Execute(netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request | netlink.Acknowledge | flags}, Data: append(head, body...)})
	})
	if err != nil {
		t.Fatalf("rtnetlink request %d: %v", typ, err)
	}
}

// Veth joins two namespaces by a pair of interfaces, until the test ends. It skips
// the test if the kernel has none (CONFIG_VETH).
func Veth(t testing.TB, a *Net, inA string, b *Net, inB string) {
	t.Helper()
	head := make([]byte, unix.SizeofIfInfomsg)
	a.links(t, unix.RTM_NEWLINK, netlink.Create|netlink.Excl, head, func(e *netlink.AttributeEncoder) {
		e.String(unix.IFLA_IFNAME, inA)
		e.Nested(unix.IFLA_LINKINFO, func(e *netlink.AttributeEncoder) error {
			e.String(unix.IFLA_INFO_KIND, "veth")
			e.Nested(unix.IFLA_INFO_DATA, func(e *netlink.AttributeEncoder) error {
				const peer = 1 // VETH_INFO_PEER
				inner := netlink.NewAttributeEncoder()
				inner.String(unix.IFLA_IFNAME, inB)
				if b.fd >= 0 {
					inner.Uint32(unix.IFLA_NET_NS_FD, uint32(b.fd))
				}
				body, err := inner.Encode()
				e.Bytes(peer, append(make([]byte, unix.SizeofIfInfomsg), body...))
				return err
			})
			return nil
		})
	})
	t.Cleanup(func() { // the other one goes with it, and with its namespace
		var i *net.Interface
		var err error
		if a.Do(func() { i, err = net.InterfaceByName(inA) }); err == nil {
			a.links(t, unix.RTM_DELLINK, 0, withIndex(i.Index, 0), func(*netlink.AttributeEncoder) {})
		}
	})
	a.Up(t, inA)
	b.Up(t, inB)
}

// withIndex is a struct ifinfomsg.
func withIndex(index int, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags)
	return b
}

// Index returns the number of an interface of the namespace.
func (n *Net) Index(t testing.TB, name string) int {
	t.Helper()
	var i *net.Interface
	var err error
	n.Do(func() { i, err = net.InterfaceByName(name) })
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

// Up brings an interface up.
func (n *Net) Up(t testing.TB, name string) {
	t.Helper()
	n.links(t, unix.RTM_NEWLINK, 0, withIndex(n.Index(t, name), unix.IFF_UP), func(*netlink.AttributeEncoder) {})
}

// Down takes an interface down.
func (n *Net) Down(t testing.TB, name string) {
	t.Helper()
	head := withIndex(n.Index(t, name), unix.IFF_UP)
	clear(head[8:12]) // the flags; what follows is which of them change
	n.links(t, unix.RTM_NEWLINK, 0, head, func(*netlink.AttributeEncoder) {})
}

// Address gives an interface an address, which can be used at once.
func (n *Net) Address(t testing.TB, name, prefix string) {
	t.Helper()
	n.address(t, name, prefix, unix.RTM_NEWADDR, netlink.Create|netlink.Replace)
}

// NoAddress takes it away.
func (n *Net) NoAddress(t testing.TB, name, prefix string) {
	t.Helper()
	n.address(t, name, prefix, unix.RTM_DELADDR, 0)
}

func (n *Net) address(t testing.TB, name, prefix string, typ netlink.HeaderType, flags netlink.HeaderFlags) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	head := make([]byte, unix.SizeofIfAddrmsg)
	head[0], head[1], head[2] = family(p), byte(p.Bits()), unix.IFA_F_NODAD
	binary.NativeEndian.PutUint32(head[4:], uint32(n.Index(t, name)))
	n.links(t, typ, flags, head, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.IFA_LOCAL, p.Addr().AsSlice())
		e.Bytes(unix.IFA_ADDRESS, p.Addr().AsSlice())
	})
}

// Route has packets to a prefix go to the neighbour via, or no more.
func (n *Net) Route(t testing.TB, prefix, via string, up bool) {
	t.Helper()
	p, typ, flags := netip.MustParsePrefix(prefix), netlink.HeaderType(unix.RTM_DELROUTE), netlink.HeaderFlags(0)
	if up {
		typ, flags = unix.RTM_NEWROUTE, netlink.Create|netlink.Replace
	}
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1], head[4], head[5], head[7] = family(p), byte(p.Bits()), unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RTN_UNICAST
	n.links(t, typ, flags, head, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.RTA_DST, p.Addr().AsSlice())
		e.Bytes(unix.RTA_GATEWAY, netip.MustParseAddr(via).AsSlice())
	})
}

// Take has the namespace take what comes to a prefix by an interface for its own, although
// it has no such address: a table of routes, and the rule that leads to it.
func (n *Net) Take(t testing.TB, prefix, name string) {
	t.Helper()
	const table = 97
	p, toTable := netip.MustParsePrefix(prefix), byte(1) // FR_ACT_TO_TBL
	rule := []byte{family(p), 0, 0, 0, table, 0, 0, toTable, 0, 0, 0, 0}
	n.links(t, unix.RTM_NEWRULE, netlink.Create, rule, func(e *netlink.AttributeEncoder) {
		const iif = 3 // FRA_IIFNAME
		e.String(iif, name)
	})
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1], head[4], head[5], head[6], head[7] = family(p), byte(p.Bits()), table, unix.RTPROT_STATIC, unix.RT_SCOPE_HOST, unix.RTN_LOCAL
	n.links(t, unix.RTM_NEWROUTE, netlink.Create, head, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.RTA_DST, p.Addr().AsSlice())
		e.Uint32(unix.RTA_OIF, uint32(n.Index(t, "lo")))
	})
}

func family(p netip.Prefix) byte {
	if p.Addr().Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// Listen and Dial are those of package net, in the namespace.
func (n *Net) Listen(network, address string) (l net.Listener, err error) {
	n.Do(func() { l, err = net.Listen(network, address) })
	return l, err
}

// Dial is that of package net; it doesn't leave the thread if the address is one
// of IP.
func (n *Net) Dial(network, address string) (c net.Conn, err error) {
	n.Do(func() {
		host, _, e := net.SplitHostPort(address)
		if _, bad := netip.ParseAddr(host); errors.Join(e, bad) != nil {
			err = errors.Join(e, bad)
			return
		}
		c, err = net.Dial(network, address)
	})
	return c, err
}
