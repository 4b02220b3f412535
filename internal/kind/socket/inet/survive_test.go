package inet

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

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
				n := optiontest.Survive(t, optiontest.Sort{Table: table(s), Like: s.like, Again: again(), Fixed: fixed(s)})
				if n < 30 {
					t.Errorf("only %d options were changed", n)
				}
				t.Log(n, "options")
			})
		}
	}
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
