package optiontest

import "golang.org/x/sys/unix"

// Why an option has no row in a table.
const (
	fixed      = "fixed when the socket is made"
	tells      = "tells something, and sets nothing"
	acts       = "does something, and is no state"
	otherwise  = "carried over by other code"
	membership = "groups are carried over by other code, see socket/inet/groups.go"
	tables     = "tables of packets (netfilter), which are not the socket's"
	elsewhere  = "of sockets of another sort, where it has a row"
	nothing    = "does nothing"
	refused    = "refused by name"
)

const (
	sol, ip, ip6, tcp = unix.SOL_SOCKET, unix.IPPROTO_IP, unix.IPPROTO_IPV6, unix.IPPROTO_TCP
	lite, udp, raw    = unix.IPPROTO_UDPLITE, unix.IPPROTO_UDP, 255
)

// reasons are options that have no row in the table of a socket that knows them, and why.
var reasons = map[ID]string{
	{sol, unix.SO_TYPE}: fixed, {sol, unix.SO_PROTOCOL}: fixed, {sol, unix.SO_DOMAIN}: fixed,
	{sol, unix.SO_ERROR}:     "an error that waits is carried over by other code, or refused by name",
	{sol, unix.SO_BSDCOMPAT}: nothing, {sol, unix.SO_SNDLOWAT}: nothing,
	{sol, unix.SO_PASSCRED}: elsewhere, {sol, unix.SO_PASSSEC}: elsewhere, {sol, unix.SO_PASSPIDFD}: elsewhere,
	{sol, unix.SO_ZEROCOPY}: elsewhere, {sol, unix.SO_RESERVE_MEM}: elsewhere,
	{sol, unix.SO_PEERCRED}: otherwise, {sol, unix.SO_PEERGROUPS}: otherwise, {sol, unix.SO_PEERPIDFD}: otherwise,
	{sol, unix.SO_BINDTODEVICE}: otherwise, {sol, unix.SO_PEERNAME}: otherwise, {sol, unix.SO_ACCEPTCONN}: otherwise,
	{sol, unix.SO_GET_FILTER}: otherwise, {sol, unix.SO_ATTACH_BPF}: otherwise, {sol, unix.SO_DETACH_FILTER}: acts,
	{sol, unix.SO_ATTACH_REUSEPORT_CBPF}: otherwise, {sol, unix.SO_ATTACH_REUSEPORT_EBPF}: otherwise, {sol, unix.SO_DETACH_REUSEPORT_BPF}: acts,
	{sol, unix.SO_SNDBUFFORCE}: acts, {sol, unix.SO_RCVBUFFORCE}: acts,
	{sol, unix.SO_BPF_EXTENSIONS}: tells, {sol, unix.SO_CNX_ADVICE}: acts, {sol, unix.SO_MEMINFO}: tells, {sol, unix.SO_INCOMING_NAPI_ID}: tells,
	{sol, unix.SO_COOKIE}: "nobody can set it", {sol, unix.SO_NETNS_COOKIE}: tells, {sol, unix.SO_BUSY_POLL_BUDGET}: otherwise, {sol, unix.SO_DEVMEM_DONTNEED}: acts,
	{sol, 84}: "SO_INQ, carried over by other code",

	{ip, unix.IP_MULTICAST_IF}: elsewhere, {ip, unix.IP_MULTICAST_TTL}: elsewhere, {ip6, unix.IPV6_MULTICAST_IF}: elsewhere, {ip6, unix.IPV6_MULTICAST_HOPS}: elsewhere,
	{ip, unix.IP_HDRINCL}: elsewhere, {ip, unix.IP_OPTIONS}: otherwise, {ip, unix.IP_ROUTER_ALERT}: elsewhere, {ip, unix.IP_PKTOPTIONS}: tells,
	{ip, unix.IP_MTU}: tells, {ip, unix.IP_XFRM_POLICY}: otherwise, {ip, unix.IP_NODEFRAG}: elsewhere, {ip, unix.IP_PROTOCOL}: tells,
	{ip, unix.IP_ADD_MEMBERSHIP}: membership, {ip, unix.IP_DROP_MEMBERSHIP}: membership, {ip, unix.IP_UNBLOCK_SOURCE}: membership,
	{ip, unix.IP_BLOCK_SOURCE}: membership, {ip, unix.IP_ADD_SOURCE_MEMBERSHIP}: membership, {ip, unix.IP_DROP_SOURCE_MEMBERSHIP}: membership,
	{ip, unix.IP_MSFILTER}: membership, {ip, unix.MCAST_JOIN_GROUP}: membership, {ip, unix.MCAST_BLOCK_SOURCE}: membership,
	{ip, unix.MCAST_UNBLOCK_SOURCE}: membership, {ip, unix.MCAST_LEAVE_GROUP}: membership, {ip, unix.MCAST_JOIN_SOURCE_GROUP}: membership,
	{ip, unix.MCAST_LEAVE_SOURCE_GROUP}: membership, {ip, unix.MCAST_MSFILTER}: membership,

	{ip6, unix.IPV6_ADDRFORM}: "makes another socket of it, of a new sort", {ip6, unix.IPV6_2292PKTOPTIONS}: otherwise,
	{ip6, unix.IPV6_JOIN_GROUP}: membership, {ip6, unix.IPV6_LEAVE_GROUP}: membership, {ip6, unix.IPV6_JOIN_ANYCAST}: membership,
	{ip6, unix.IPV6_LEAVE_ANYCAST}: membership, {ip6, unix.MCAST_JOIN_GROUP}: membership, {ip6, unix.MCAST_BLOCK_SOURCE}: membership,
	{ip6, unix.MCAST_UNBLOCK_SOURCE}: membership, {ip6, unix.MCAST_LEAVE_GROUP}: membership, {ip6, unix.MCAST_JOIN_SOURCE_GROUP}: membership,
	{ip6, unix.MCAST_LEAVE_SOURCE_GROUP}: membership, {ip6, unix.MCAST_MSFILTER}: membership,
	{ip6, unix.IPV6_ROUTER_ALERT}: refused, {ip6, unix.IPV6_MTU}: otherwise, {ip6, 32}: "IPV6_FLOWLABEL_MGR, " + otherwise,
	{ip6, unix.IPV6_IPSEC_POLICY}: "nothing without keys", {ip6, unix.IPV6_XFRM_POLICY}: otherwise, {ip6, unix.IPV6_PKTINFO}: otherwise,
	{ip6, unix.IPV6_HOPOPTS}: otherwise, {ip6, unix.IPV6_RTHDRDSTOPTS}: otherwise, {ip6, unix.IPV6_RTHDR}: otherwise, {ip6, unix.IPV6_DSTOPTS}: otherwise,
	{ip6, unix.IPV6_PATHMTU}: tells, {ip6, unix.IPV6_V6ONLY}: elsewhere, {ip6, unix.IPV6_TRANSPARENT}: elsewhere, {ip6, unix.IPV6_FREEBIND}: elsewhere,

	{tcp, unix.TCP_INFO}: tells, {tcp, unix.TCP_MD5SIG}: otherwise, {tcp, unix.TCP_MD5SIG_EXT}: otherwise, {tcp, unix.TCP_THIN_DUPACK}: nothing,
	{tcp, unix.TCP_REPAIR_QUEUE}: acts, {tcp, unix.TCP_QUEUE_SEQ}: otherwise, {tcp, unix.TCP_REPAIR_OPTIONS}: acts, {tcp, unix.TCP_TIMESTAMP}: otherwise,
	{tcp, unix.TCP_CC_INFO}: tells, {tcp, unix.TCP_SAVED_SYN}: refused, {tcp, unix.TCP_REPAIR_WINDOW}: otherwise, {tcp, unix.TCP_ULP}: refused,
	{tcp, unix.TCP_FASTOPEN_KEY}: otherwise, {tcp, unix.TCP_ZEROCOPY_RECEIVE}: acts, {tcp, 43}: "TCP_IS_MPTCP, " + tells,

	{udp, 10}: elsewhere, {udp, 11}: elsewhere,
	{lite, 10}: elsewhere, {lite, 11}: elsewhere, // UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV
	{raw, 36}: "IPV6_HDRINCL, elsewhere",

	{unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP}: otherwise, {unix.SOL_PACKET, unix.PACKET_DROP_MEMBERSHIP}: otherwise,
	{unix.SOL_PACKET, unix.PACKET_RX_RING}: otherwise, {unix.SOL_PACKET, unix.PACKET_TX_RING}: otherwise, {unix.SOL_PACKET, unix.PACKET_STATISTICS}: tells,
	{unix.SOL_PACKET, unix.PACKET_HDRLEN}: tells, {unix.SOL_PACKET, unix.PACKET_FANOUT}: otherwise, {unix.SOL_PACKET, unix.PACKET_ROLLOVER_STATS}: tells,
	{unix.SOL_PACKET, unix.PACKET_FANOUT_DATA}: otherwise,

	{unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP}: otherwise, {unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP}: otherwise,
	{unix.SOL_NETLINK, unix.NETLINK_LIST_MEMBERSHIPS}: otherwise,

	{unix.SOL_XDP, unix.XDP_MMAP_OFFSETS}: tells, {unix.SOL_XDP, unix.XDP_RX_RING}: refused, {unix.SOL_XDP, unix.XDP_TX_RING}: refused,
	{unix.SOL_XDP, unix.XDP_UMEM_REG}: refused, {unix.SOL_XDP, unix.XDP_UMEM_FILL_RING}: refused, {unix.SOL_XDP, unix.XDP_UMEM_COMPLETION_RING}: refused,
	{unix.SOL_XDP, unix.XDP_STATISTICS}: tells, {unix.SOL_XDP, unix.XDP_OPTIONS}: tells,
	{unix.SOL_XDP, 9}: "XDP_MAX_TX_SKB_BUDGET, which needs a ring, and that is refused by name",

	{unix.SOL_MPTCP, 1}: "MPTCP_INFO, " + tells, {unix.SOL_MPTCP, 2}: "MPTCP_TCPINFO, " + tells,
	{unix.SOL_MPTCP, 3}: "MPTCP_SUBFLOW_ADDRS, " + tells, {unix.SOL_MPTCP, 4}: "MPTCP_FULL_INFO, " + tells,
}

// reason says why an option has no row in a table; "" if nobody knows.
func reason(id ID) string {
	const (
		first  = 64  // IPT_BASE_CTL, and what is like it: the last of IPPROTO_IP are below
		router = 200 // MRT6_BASE
	)
	switch at := id.Opt; {
	case reasons[id] != "":
		return reasons[id]
	case id.Level == ip && at >= first, id.Level == ip6 && (at == 64 || at == 65 || at == 68 || at == 69 || at == 80):
		return tables
	case id.Level == ip6 && at >= router && at < router+20:
		return "of a multicast router (MRT6_INIT), refused by name"
	}
	return ""
}
