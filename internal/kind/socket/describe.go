package socket

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// TypeName returns a socket type as in C.
func TypeName(t int) string {
	names := [...]string{1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 6: "SOCK_DCCP", 10: "SOCK_PACKET"}
	if t > 0 && t < len(names) && names[t] != "" {
		return names[t]
	}
	return fmt.Sprintf("socket type %d", t)
}

// Unaccepted says how many connections wait at a listener.
func Unaccepted(n int) string {
	if n == 1 {
		return "1 connection waits to be accepted"
	}
	return fmt.Sprintf("%d connections wait to be accepted", n)
}

// StateName returns a state as /proc/net and sock_diag(7) number them
// (include/net/tcp_states.h); families other than TCP use a few of them.
func StateName(s int) string {
	names := [...]string{
		1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
		8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV", 13: "BOUND_INACTIVE",
	}
	if s > 0 && s < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", s)
}

// FamilyName returns an address family as in C.
func FamilyName(f int) string {
	names := map[int]string{
		unix.AF_UNIX: "AF_UNIX", unix.AF_INET: "AF_INET", unix.AF_INET6: "AF_INET6", unix.AF_NETLINK: "AF_NETLINK", unix.AF_PACKET: "AF_PACKET",
		unix.AF_VSOCK: "AF_VSOCK", unix.AF_ALG: "AF_ALG", unix.AF_BLUETOOTH: "AF_BLUETOOTH", unix.AF_CAN: "AF_CAN", unix.AF_XDP: "AF_XDP",
		unix.AF_TIPC: "AF_TIPC", unix.AF_SMC: "AF_SMC", unix.AF_RDS: "AF_RDS", unix.AF_KEY: "AF_KEY", unix.AF_QIPCRTR: "AF_QIPCRTR",
		unix.AF_KCM: "AF_KCM", unix.AF_PPPOX: "AF_PPPOX", unix.AF_NFC: "AF_NFC", unix.AF_AX25: "AF_AX25", unix.AF_PHONET: "AF_PHONET",
		unix.AF_IPX: "AF_IPX", unix.AF_APPLETALK: "AF_APPLETALK", unix.AF_NETROM: "AF_NETROM", unix.AF_X25: "AF_X25", unix.AF_ROSE: "AF_ROSE",
		unix.AF_LLC: "AF_LLC", unix.AF_RXRPC: "AF_RXRPC", unix.AF_IUCV: "AF_IUCV", unix.AF_IEEE802154: "AF_IEEE802154", unix.AF_CAIF: "AF_CAIF",
		unix.AF_MCTP: "AF_MCTP", unix.AF_ATMPVC: "AF_ATMPVC", unix.AF_ATMSVC: "AF_ATMSVC", unix.AF_ISDN: "AF_ISDN", unix.AF_IB: "AF_IB",
	}
	if n := names[f]; n != "" {
		return n
	}
	return fmt.Sprintf("address family %d", f)
}
