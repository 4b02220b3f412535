package netlock

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Who sends a datagram to a port where nobody is gets an answer that says so
// (ICMP, port unreachable), and many programs end over it. So the table that stays
// from a dump until its restore also drops what comes to ports of UDP, if no socket
// is there to get it: others that share the port go on. It is on input only.
// The kernel finds no sockets of UDP-Lite that way; of that all is dropped.

// away is the chain that packets to such a port go through.
const away = "away"

// Attributes and values of include/uapi/linux/netfilter/nf_tables.h that x/sys/unix
// has no name for.
const (
	nftaSocketKey        = 1 // NFTA_SOCKET_KEY
	nftaSocketDreg       = 2 // NFTA_SOCKET_DREG
	nftSocketTransparent = 0 // NFT_SOCKET_TRANSPARENT
)

// typeProtocol is how nft(8) numbers the type of a protocol.
const typeProtocol = 12

// portSets are the sets of protocols, addresses and ports, by family. An address
// of 0 is every one.
var portSets = [2]family{
	{"ports4", 3, unix.NFPROTO_IPV4, 12, 16, 4, (typeProtocol<<typeBits|typeIPv4)<<typeBits | typePort},
	{"ports6", 4, unix.NFPROTO_IPV6, 8, 24, 16, (typeProtocol<<typeBits|typeIPv6)<<typeBits | typePort},
}

// toPort tells whether a flow is all that comes to its local end.
func (f Flow) toPort() bool { return !f.Remote.IsValid() }

// Connections returns those of the flows that are between two ends.
func Connections(flows []Flow) []Flow {
	n := 0
	for i := range flows {
		if !flows[i].toPort() {
			n++
		}
	}
	if n == len(flows) {
		return flows
	}
	out := make([]Flow, 0, n)
	for _, f := range flows {
		if !f.toPort() {
			out = append(out, f)
		}
	}
	return out
}

// portKeys returns the keys of both sets.
func portKeys(flows []Flow) [2][][]byte {
	var out [2][][]byte
	seen := map[Flow]bool{}
	add := func(protocol uint8, at netip.AddrPort) {
		f := Flow{Protocol: protocol, Local: at}
		if seen[f] {
			return
		}
		seen[f] = true
		i := 0
		if at.Addr().Is6() {
			i = 1
		}
		k := append([]byte{protocol, 0, 0, 0}, at.Addr().AsSlice()...)
		out[i] = append(out[i], append(binary.BigEndian.AppendUint16(k, at.Port()), 0, 0))
	}
	for _, f := range flows {
		if !f.toPort() {
			continue
		}
		at := f.canonical().Local
		add(f.Protocol, at)
		if f.Both {
			add(f.Protocol, netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()))
		}
	}
	return out
}

// alone leaves out the ports that others may share.
func alone(flows []Flow) []Flow {
	var out []Flow
	for _, f := range flows {
		if !f.toPort() || !f.Shared {
			out = append(out, f)
		}
	}
	return out
}

// ports adds what drops packets to ports. With look they are dropped only if
// nobody is there (CONFIG_NFT_SOCKET).
func (b *batch) ports(table string, keys [2][][]byte, look bool) {
	b.table(unix.NFT_MSG_NEWCHAIN, netlink.Create, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_CHAIN_TABLE, table)
		e.String(unix.NFTA_CHAIN_NAME, away)
	})
	if look { // this goes on if there is a socket, whatever the value is
		b.rule(table, away, meta(unix.NFT_META_L4PROTO), equal([]byte{unix.IPPROTO_UDP}), socketOf(), verdict(nfAccept))
	}
	b.rule(table, away, verdict(nfDrop))
	b.atPorts(table, away, keys)
}

// atPorts has what comes to ports go through a chain.
func (b *batch) atPorts(table, chain string, keys [2][][]byte) {
	for i := range portSets {
		if len(keys[i]) == 0 {
			continue
		}
		f := &portSets[i]
		b.setOf(table, f, 8+f.size, len(keys[i]))
		for _, every := range []bool{false, true} {
			b.atPort(table, chain, f, every)
		}
		b.elements(table, f, keys[i])
	}
}

// atPort has what is in a set go through a chain.
func (b *batch) atPort(table, chain string, f *family, every bool) {
	address := payload(unix.NFT_PAYLOAD_NETWORK_HEADER, f.dest, f.size, unix.NFT_REG32_00+1)
	if every {
		address = constant(make([]byte, f.size), unix.NFT_REG32_00+1)
	}
	b.rule(table, "input",
		meta(unix.NFT_META_NFPROTO), equal([]byte{f.proto}),
		metaTo(unix.NFT_META_L4PROTO, unix.NFT_REG32_00),
		address,
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, unix.NFT_REG32_00+1+f.size/4),
		lookup(f),
		jump(chain))
}

// socketOf goes on if somebody has a socket that would get the packet.
func socketOf() expr {
	return expression("socket", func(e *netlink.AttributeEncoder) {
		e.Uint32(nftaSocketKey, nftSocketTransparent)
		e.Uint32(nftaSocketDreg, unix.NFT_REG_1)
	})
}

// constant loads bytes into a register.
func constant(value []byte, register uint32) expr {
	return expression("immediate", func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NFTA_IMMEDIATE_DREG, register)
		e.Nested(unix.NFTA_IMMEDIATE_DATA, func(e *netlink.AttributeEncoder) error {
			e.Bytes(unix.NFTA_DATA_VALUE, value)
			return nil
		})
	})
}

// keep makes the table that stays. Without a way to find sockets, ports that others
// may share are left alone.
func keep(sock int, name string, flows []Flow) error {
	err := exchange(sock, keptBatch(name, flows, true))
	if len(flows) == len(Connections(flows)) || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return exchange(sock, keptBatch(name, alone(flows), false))
}

// keptBatch is the transaction that makes that table.
func keptBatch(name string, flows []Flow, look bool) []byte {
	b := &batch{}
	b.replace(name, setKeys(flows))
	if keys := portKeys(flows); len(keys[0])+len(keys[1]) > 0 {
		b.ports(name, keys, look)
	}
	return b.fill(name, setKeys(flows))
}
