package inet

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// fixed are options that these sockets tell, but don't let be changed, and why.
func fixed(s sort) map[string]string {
	out := map[string]string{}
	say := func(why string, names ...string) {
		for _, n := range names {
			out[n] = why
		}
	}
	switch {
	case s.protocol == unix.IPPROTO_TCP:
		say("not of streams", "IP_MULTICAST_IF", "IP_MULTICAST_TTL", "IPV6_MULTICAST_IF", "IPV6_MULTICAST_HOPS")
	case s.protocol == unix.IPPROTO_MPTCP:
		say("taken and ignored", "SO_DONTROUTE", "SO_BROADCAST", "SO_OOBINLINE", "SO_NO_CHECK", "SO_RXQ_OVFL", "SO_WIFI_STATUS", "SO_NOFCS",
			"SO_SELECT_ERR_QUEUE", "SO_MAX_PACING_RATE", "SO_TXTIME", "SO_RCVMARK", "SO_RCVPRIORITY", "SO_ZEROCOPY", "SO_LOCK_FILTER")
	case s.protocol == unix.IPPROTO_RAW:
		say("not of this protocol", "IP_ROUTER_ALERT")
	}
	if s.bare == unix.SOCK_RAW {
		say("they have no ports", "IPV6_V6ONLY")
	}
	return out
}

// late is fixed for sockets that listen or are connected.
func late(s sort) map[string]string {
	out := fixed(s)
	for _, n := range []string{"IPV6_V6ONLY", "TCP_FASTOPEN_CONNECT"} {
		out[n] = "before it is opened only"
	}
	if s.connected {
		out["TCP_FASTOPEN"], out["TCP_FASTOPEN_NO_COOKIE"] = "of listeners", "of listeners"
	}
	return out
}

// Every option of every sort of sockets of IP that can be changed survives, each
// alone, and all together.
func TestEveryOptionSurvives(t *testing.T) {
	testkit.RequireRoot(t)
	pings(t)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		echo := map[int]int{unix.AF_INET: unix.IPPROTO_ICMP, unix.AF_INET6: unix.IPPROTO_ICMPV6}[family]
		for _, s := range []sort{
			{family: family, protocol: unix.IPPROTO_TCP}, {family: family, protocol: unix.IPPROTO_MPTCP},
			{family: family, protocol: unix.IPPROTO_UDP}, {family: family, protocol: unix.IPPROTO_UDPLITE},
			{family: family, protocol: echo, bare: unix.SOCK_RAW}, {family: family, protocol: 253, bare: unix.SOCK_RAW},
			{family: family, protocol: unix.IPPROTO_RAW, bare: unix.SOCK_RAW}, {family: family, protocol: echo, bare: unix.SOCK_DGRAM},
		} {
			t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
				if !possible(t, s) {
					t.Skip("no UDP-Lite, which kernels after Linux 7.0 don't have, or a sysctl forbids it")
				}
				survives(t, optiontest.Sort{Table: table(s), Like: s.like, Again: again(), Fixed: fixed(s)})
			})
		}
	}
}

// A listener and a TCP connection keep each of their options, too, and all of them.
func TestEveryOptionOfOpenedSurvives(t *testing.T) {
	testkit.RequireRoot(t)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		at := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[family]
		for _, protocol := range []int{unix.IPPROTO_TCP, unix.IPPROTO_MPTCP} {
			s := sort{family: family, protocol: protocol}
			t.Run(fmt.Sprintf("%v listening", s), func(t *testing.T) {
				if !possible(t, s) {
					t.Skip("a sysctl forbids it (net.mptcp.enabled)")
				}
				listening := func() (int, error) {
					n, err := s.like()
					must(t, err)
					must(t, unix.Bind(n, address{ip: netip.MustParseAddr(at)}.sockaddr(family, 0)))
					return n, unix.Listen(n, 3)
				}
				survives(t, optiontest.Sort{Table: table(s), Like: listening, Again: again(), Fixed: late(s)})
			})
		}
		s := sort{family: family, protocol: unix.IPPROTO_TCP, connected: true}
		t.Run(fmt.Sprintf("%v connected", s), func(t *testing.T) {
			pairs := map[int]*pair{}
			like := func() (int, error) {
				p := paired(t, sort{family: family, protocol: unix.IPPROTO_TCP}, at)
				p.notAlone = true // see TestLoneConnection
				n := p.ends[0].Int()
				pairs[n] = p
				return n, nil
			}
			again := func(t *testing.T, n int) int {
				p := pairs[n]
				p.move(t, 0)
				n, err := unix.FcntlInt(uintptr(p.ends[0].Int()), unix.F_DUPFD_CLOEXEC, 0)
				must(t, err)
				must(t, p.ends[0].Close())
				return n
			}
			// The kernel tunes some.
			some := slices.DeleteFunc(table(s), func(o socket.Option) bool {
				return slices.Contains([]string{"SO_SNDBUF", "SO_RCVBUF", "SO_BUF_LOCK", "TCP_WINDOW_CLAMP"}, o.Name)
			})
			survives(t, optiontest.Sort{Table: some, Like: like, Again: again, Fixed: late(s)})
		})
	}
}

func survives(t *testing.T, s optiontest.Sort) {
	t.Helper()
	n := optiontest.Survive(t, s)
	if n < 30 {
		t.Errorf("only %d options were changed", n)
	}
	t.Log(n, "options")
}

// again returns what restores a socket.
func again() func(*testing.T, int) int {
	k := New() // which learns only once what the kernel has
	return func(t *testing.T, n int) int {
		t.Helper()
		clear(k.bare) // and which raw sockets there are
		in, err := dumpedBy(t, k, &options.Dump{}, n)
		must(t, err)
		must(t, unix.Close(n))
		n, err = unix.FcntlInt(uintptr(restored(t, in)[1]), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		return n
	}
}

// pings lets everybody ping in this network namespace, until the test ends.
func pings(t *testing.T) {
	t.Helper()
	const file = "/proc/sys/net/ipv4/ping_group_range"
	was, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte("0 2147483647"), 0))
	t.Cleanup(func() { must(t, os.WriteFile(file, was, 0)) })
}
