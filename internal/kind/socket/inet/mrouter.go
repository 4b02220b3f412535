package inet

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
)

// routerNames are the members of structures that tell which sockets forward
// multicast, where the kernel can do that (CONFIG_IP_MROUTE_MULTIPLE_TABLES).
func routerNames() []string {
	return []string{
		"sock_common.skc_net", "sock_common.skc_family", "net.ipv4", "?net.ipv6", "?netns_ipv4.mr_tables", "?netns_ipv6.mr6_tables",
		"?mr_table", "?mr_table.list", "?mr_table.mroute_sk",
	}
}

// mostTables is more than the routing tables that there are for multicast.
const mostTables = 1 << 16

// isRouter tells whether a socket is the one that a table of multicast routes
// belongs to (MRT_INIT, MRT6_INIT); s begins with its struct sock.
func isRouter(m *kmem.Reader, s *kmem.Struct) (bool, error) {
	list, in := "netns_ipv4.mr_tables", "net.ipv4"
	if s.U16("sock_common.skc_family") == unix.AF_INET6 {
		list, in = "netns_ipv6.mr6_tables", "net.ipv6"
	}
	if !m.Has(list) || !m.Has(in) || !m.Has("mr_table.mroute_sk") {
		return false, nil
	}
	head := s.Pointer("sock_common.skc_net") + m.Off(in) + m.Off(list)
	at, err := m.Pointer(head)
	for n := 0; err == nil && at != head && n < mostTables; n++ {
		var t *kmem.Struct
		if t, err = m.Struct("mr_table", at-m.Off("mr_table.list")); err != nil {
			break
		}
		if t.Pointer("mr_table.mroute_sk") == s.At {
			return true, nil
		}
		at = t.Pointer("mr_table.list") // next comes first
	}
	return false, err
}
