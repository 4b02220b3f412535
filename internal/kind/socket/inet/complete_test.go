package inet

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/testkit"
)

// elsewhere are options that other code carries over, or that are no state.
var elsewhere = map[optiontest.ID]string{
	{Level: unix.IPPROTO_TCP, Opt: unix.TCP_REPAIR}:     "what Glis uses",
	{Level: solRaw, Opt: unix.IPV6_CHECKSUM}:            "IPV6_CHECKSUM at another level",
	{Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_CHECKSUM}: "IPV6_CHECKSUM at another level",
	{Level: unix.IPPROTO_ICMPV6, Opt: icmp6Filter}:      "ICMPV6_FILTER, see readFilter6",
	{Level: unix.IPPROTO_IP, Opt: unix.IP_FREEBIND}:     "IPV6_FREEBIND of an IPv6 socket",
	{Level: unix.IPPROTO_IP, Opt: unix.IP_TRANSPARENT}:  "IPV6_TRANSPARENT of an IPv6 socket",
}

// ofUDP are options of level IPPROTO_UDP that are also those of IPPROTO_UDPLITE.
var ofUDP = []int{unix.UDP_CORK, unix.UDP_ENCAP, unix.UDP_NO_CHECK6_TX, unix.UDP_NO_CHECK6_RX, unix.UDP_SEGMENT, unix.UDP_GRO}

// Every option that the kernel has is in a table.
func TestEveryOptionIsKnown(t *testing.T) {
	testkit.RequireRoot(t)
	except := maps.Clone(elsewhere)
	for _, n := range ofUDP {
		except[optiontest.ID{Level: unix.IPPROTO_UDPLITE, Opt: n}] = "of IPPROTO_UDP"
	}
	for _, s := range []sort{
		{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, {family: unix.AF_INET6, protocol: unix.IPPROTO_TCP},
		{family: unix.AF_INET, protocol: unix.IPPROTO_UDP}, {family: unix.AF_INET6, protocol: unix.IPPROTO_UDP},
		{family: unix.AF_INET, protocol: unix.IPPROTO_UDPLITE}, {family: unix.AF_INET6, protocol: unix.IPPROTO_UDPLITE},
		{family: unix.AF_INET, protocol: unix.IPPROTO_ICMP, bare: unix.SOCK_RAW}, {family: unix.AF_INET6, protocol: unix.IPPROTO_ICMPV6, bare: unix.SOCK_RAW},
		{family: unix.AF_INET, protocol: unix.IPPROTO_RAW, bare: unix.SOCK_RAW}, {family: unix.AF_INET6, protocol: 253, bare: unix.SOCK_RAW},
		{family: unix.AF_INET, protocol: unix.IPPROTO_ICMP, bare: unix.SOCK_DGRAM}, {family: unix.AF_INET6, protocol: unix.IPPROTO_ICMPV6, bare: unix.SOCK_DGRAM},
		{family: unix.AF_INET, protocol: unix.IPPROTO_MPTCP}, {family: unix.AF_INET6, protocol: unix.IPPROTO_MPTCP},
	} {
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			levels := []int{unix.SOL_SOCKET, unix.IPPROTO_IP}
			if s.family == unix.AF_INET6 {
				levels = append(levels, unix.IPPROTO_IPV6)
			}
			if !possible(t, s) {
				t.Skip("no UDP-Lite, which kernels after Linux 7.0 don't have, or a sysctl forbids it")
			}
			optiontest.Named(t, table(s), except, s.like)
			switch {
			case s.protocol == unix.IPPROTO_MPTCP:
				levels = append(levels, unix.IPPROTO_TCP, unix.SOL_MPTCP)
			case s.bare == 0:
				levels = append(levels, s.protocol)
			default:
				levels = append(levels, solRaw, unix.IPPROTO_ICMPV6)
			}
			if s.protocol == unix.IPPROTO_MPTCP || s.bare == unix.SOCK_DGRAM || s.protocol == unix.IPPROTO_RAW || s.protocol == 253 {
				optiontest.Known(t, table(s), except, s.like, levels...) // they ignore some
				return
			}
			optiontest.Complete(t, table(s), except, s.like, levels...)
		})
	}
}

// possible tells whether this kernel has such sockets: newer ones have no UDP-Lite.
func possible(t *testing.T, s sort) bool {
	t.Helper()
	n, err := s.like()
	if s.lite() && errors.Is(err, unix.EPROTONOSUPPORT) {
		return false
	}
	if s.bare == unix.SOCK_DGRAM && errors.Is(err, unix.EACCES) || s.protocol == unix.IPPROTO_MPTCP && errors.Is(err, unix.ENOPROTOOPT) {
		return false // net.ipv4.ping_group_range, net.mptcp.enabled
	}
	must(t, err)
	unix.Close(n)
	return true
}
