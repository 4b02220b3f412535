package inet

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/testkit"
)

// elsewhere are options that other code carries over, or that are no state.
var elsewhere = map[optiontest.ID]string{
	{Level: unix.IPPROTO_TCP, Opt: unix.TCP_QUICKACK}:  "what TCP is at in this moment",
	{Level: unix.IPPROTO_TCP, Opt: unix.TCP_REPAIR}:    "what Glis uses",
	{Level: unix.IPPROTO_IP, Opt: unix.IP_FREEBIND}:    "IPV6_FREEBIND of an IPv6 socket",
	{Level: unix.IPPROTO_IP, Opt: unix.IP_TRANSPARENT}: "IPV6_TRANSPARENT of an IPv6 socket",
}

// Every option that the kernel has is in a table.
func TestEveryOptionIsKnown(t *testing.T) {
	testkit.RequireRoot(t)
	for _, s := range []sort{
		{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}, {family: unix.AF_INET6, protocol: unix.IPPROTO_TCP},
		{family: unix.AF_INET, protocol: unix.IPPROTO_UDP}, {family: unix.AF_INET6, protocol: unix.IPPROTO_UDP},
		{family: unix.AF_INET, protocol: unix.IPPROTO_ICMP, bare: unix.SOCK_RAW}, {family: unix.AF_INET6, protocol: unix.IPPROTO_ICMPV6, bare: unix.SOCK_RAW},
	} {
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			levels := []int{unix.SOL_SOCKET, unix.IPPROTO_IP}
			if s.family == unix.AF_INET6 {
				levels = append(levels, unix.IPPROTO_IPV6)
			}
			if s.bare == 0 {
				levels = append(levels, s.protocol)
			}
			optiontest.Complete(t, table(s), elsewhere, s.like, levels...)
		})
	}
}
