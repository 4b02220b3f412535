package netlock

import (
	"encoding/binary"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A lock is one table of family inet. Its two chains, of the hooks input and
// output, drop what is in one of two sets: address and port of one end with
// address and port of the other, of IPv4 and of IPv6. Each connection is there once,
// the lesser end first, and rules look both ways: to fill sets is what a lock's time
// goes into. criu's have each connection twice; each can take away the other's.
//
// The messages are made here and not by a library since everything has to be
// one transaction that begins with a table of certain flags. See
// include/uapi/linux/netfilter/nf_tables.h.

// flagOwner is NFT_TABLE_F_OWNER, Linux 5.12: the kernel removes the table
// when the socket that made it is closed.
const flagOwner = 2

// PassMark is criu's SOCCR_MARK: packets with it are let through. Who restores
// a half-closed connection sends itself one.
const PassMark = 0xC114

// Verdicts, include/uapi/linux/netfilter.h.
const (
	nfDrop   = 0
	nfAccept = 1
)

// family is what rules and sets of one IP version are like.
type family struct {
	set        string
	id         uint32 // of the set, within one batch
	proto      byte   // NFPROTO_*
	source     uint32 // offset of the addresses in the header, and their size
	dest, size uint32
	keyType    uint32
}

// Types of the parts of a key, as nft(8) numbers them to print it.
const (
	typeIPv4, typeIPv6, typePort = 7, 8, 13
	typeBits                     = 6
)

func keyType(addr uint32) uint32 {
	return ((addr<<typeBits|typePort)<<typeBits|addr)<<typeBits | typePort
}

var families = [2]family{
	{"conns4", 1, unix.NFPROTO_IPV4, 12, 16, 4, keyType(typeIPv4)},
	{"conns6", 2, unix.NFPROTO_IPV6, 8, 24, 16, keyType(typeIPv6)},
}

// keySize is that of a set: ports are padded to a register.
func (f *family) keySize() uint32 { return 2 * (f.size + 4) }

// batch is a transaction of nf_tables under construction.
type batch struct {
	out []byte
	seq uint32
}

const nfgenmsg = 4 // struct nfgenmsg

func (b *batch) add(typ netlink.HeaderType, flags netlink.HeaderFlags, fam byte, res uint16, attrs func(*netlink.AttributeEncoder)) {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	if attrs != nil {
		attrs(e)
	}
	body, err := e.Encode()
	if err != nil {
		panic(err) // an attribute beyond 64 KiB: elementsAtOnce sees to it
	}
	b.seq++
	head := make([]byte, unix.NLMSG_HDRLEN+nfgenmsg)
	le := binary.NativeEndian
	le.PutUint32(head, uint32(len(head)+len(body)))
	le.PutUint16(head[4:], uint16(typ))
	le.PutUint16(head[6:], uint16(netlink.Request|flags))
	le.PutUint32(head[8:], b.seq)
	head[unix.NLMSG_HDRLEN] = fam
	binary.BigEndian.PutUint16(head[unix.NLMSG_HDRLEN+2:], res)
	b.out = append(append(b.out, head...), body...)
}

// table adds a message of nf_tables for family inet.
func (b *batch) table(msg int, flags netlink.HeaderFlags, attrs func(*netlink.AttributeEncoder)) {
	b.add(netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8|msg), flags, unix.NFPROTO_INET, 0, attrs)
}

func (b *batch) begin() {
	b.add(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
}

// end closes the transaction. The message before it must have asked for an
// acknowledgement, see exchange.
func (b *batch) end() []byte {
	b.add(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	return b.out
}

// chains are where packets that leave and come pass.
var chains = []string{"output", "input"}

// lockBatch is the transaction that makes the table of a lock, and fills it.
func lockBatch(name string, flags uint32, flows []Flow) []byte {
	b := &batch{}
	keys := setKeys(flows)
	b.lock(name, flags, keys)
	return b.fill(name, keys)
}

// lock begins a transaction with the table of a lock.
func (b *batch) lock(name string, flags uint32, keys [2][][]byte) {
	b.begin()
	b.rules(name, flags, keys)
}

// replace begins a transaction with the table of a lock, in the place of one that may
// be there: at no time there is neither. What isn't there can't be removed, so it is
// made first.
func (b *batch) replace(name string, keys [2][][]byte) {
	b.begin()
	named := func(e *netlink.AttributeEncoder) { e.String(unix.NFTA_TABLE_NAME, name) }
	b.table(unix.NFT_MSG_NEWTABLE, netlink.Create, named)
	b.table(unix.NFT_MSG_DELTABLE, 0, named)
	b.rules(name, 0, keys)
}

// rules makes the table of a lock, with empty sets.
func (b *batch) rules(name string, flags uint32, keys [2][][]byte) {
	b.table(unix.NFT_MSG_NEWTABLE, netlink.Create|netlink.Excl, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_TABLE_NAME, name)
		e.Uint32(unix.NFTA_TABLE_FLAGS, flags)
	})
	for i := range families {
		b.set(name, &families[i], len(keys[i]))
	}
	b.chain(name, "output", unix.NF_INET_LOCAL_OUT)
	b.chain(name, "input", unix.NF_INET_LOCAL_IN)
	for _, chain := range chains {
		b.pass(name, chain)
		for i := range families {
			b.drop(name, chain, &families[i])
		}
	}
}

// fillBatch is the transaction that fills the sets of a lock that is there.
func fillBatch(name string, flows []Flow) []byte {
	b := &batch{}
	b.begin()
	return b.fill(name, setKeys(flows))
}

// fill puts keys into the sets and ends the transaction.
func (b *batch) fill(name string, keys [2][][]byte) []byte {
	for i := range families {
		b.elements(name, &families[i], keys[i])
	}
	b.acknowledge()
	return b.end()
}

// acknowledge has the last message answered.
func (b *batch) acknowledge() {
	at, last := 0, 0
	for at < len(b.out) {
		last = at
		at += int(binary.NativeEndian.Uint32(b.out[at:]))
	}
	flags := b.out[last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

// unlockBatch is the transaction that removes a table that is there.
func unlockBatch(name string) []byte {
	b := &batch{}
	b.begin()
	b.table(unix.NFT_MSG_DELTABLE, netlink.Acknowledge, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_TABLE_NAME, name)
	})
	return b.end()
}

// passBatch is the transaction that removes all rules from the table of a lock.
func passBatch(name string) []byte {
	b := &batch{}
	b.begin()
	for _, chain := range chains {
		b.table(unix.NFT_MSG_DELRULE, 0, func(e *netlink.AttributeEncoder) {
			e.String(unix.NFTA_RULE_TABLE, name)
			e.String(unix.NFTA_RULE_CHAIN, chain)
		})
	}
	b.acknowledge()
	return b.end()
}

func (b *batch) set(table string, f *family, n int) { b.setOf(table, f, f.keySize(), n) }

// setOf adds a set of keys of this size, that so many will be put into.
func (b *batch) setOf(table string, f *family, size uint32, n int) {
	b.setWith(table, f, size, 0, n)
}

// setWith adds one with flags (NFT_SET_*).
func (b *batch) setWith(table string, f *family, size, flags uint32, n int) {
	b.table(unix.NFT_MSG_NEWSET, netlink.Create, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_SET_TABLE, table)
		e.String(unix.NFTA_SET_NAME, f.set)
		e.Uint32(unix.NFTA_SET_FLAGS, flags)
		e.Uint32(unix.NFTA_SET_KEY_TYPE, f.keyType)
		e.Uint32(unix.NFTA_SET_KEY_LEN, size)
		e.Uint32(unix.NFTA_SET_ID, f.id)
		if n == 0 {
			return // it grows
		}
		e.Nested(unix.NFTA_SET_DESC, func(e *netlink.AttributeEncoder) error {
			e.Uint32(unix.NFTA_SET_DESC_SIZE, uint32(n))
			return nil
		})
	})
}

func (b *batch) chain(table, name string, hook uint32) {
	b.table(unix.NFT_MSG_NEWCHAIN, netlink.Create, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_CHAIN_TABLE, table)
		e.String(unix.NFTA_CHAIN_NAME, name)
		e.Nested(unix.NFTA_CHAIN_HOOK, func(e *netlink.AttributeEncoder) error {
			e.Uint32(unix.NFTA_HOOK_HOOKNUM, hook)
			e.Uint32(unix.NFTA_HOOK_PRIORITY, 0)
			return nil
		})
		e.String(unix.NFTA_CHAIN_TYPE, "filter")
	})
}

// rule adds a rule of some expressions.
func (b *batch) rule(table, chain string, exprs ...expr) {
	b.table(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_RULE_TABLE, table)
		e.String(unix.NFTA_RULE_CHAIN, chain)
		e.Nested(unix.NFTA_RULE_EXPRESSIONS, func(e *netlink.AttributeEncoder) error {
			for _, x := range exprs {
				e.Nested(unix.NFTA_LIST_ELEM, x)
			}
			return nil
		})
	})
}

// pass lets marked packets through.
func (b *batch) pass(table, chain string) {
	mark := binary.NativeEndian.AppendUint32(nil, PassMark)
	b.rule(table, chain, meta(unix.NFT_META_MARK), equal(mark), verdict(nfAccept))
}

// drop drops what is in the set of a family, whichever way it goes.
func (b *batch) drop(table, chain string, f *family) {
	for _, ends := range [][]expr{between(f), backwards(f)} {
		is := []expr{meta(unix.NFT_META_NFPROTO), equal([]byte{f.proto}), meta(unix.NFT_META_L4PROTO), equal([]byte{unix.IPPROTO_TCP})}
		b.rule(table, chain, append(append(is, ends...), lookup(f), verdict(nfDrop))...)
	}
}

// Where the ports are in a header of TCP.
const (
	sourcePort = 0
	destPort   = 2
)

// between loads the key of a packet of that family: both its ends.
func between(f *family) []expr { return ends(f, f.source, sourcePort, f.dest, destPort) }

// backwards loads the key of a packet that goes the other way.
func backwards(f *family) []expr { return ends(f, f.dest, destPort, f.source, sourcePort) }

// ends loads two addresses and ports, which are at these places in their headers.
func ends(f *family, addr, port, addr2, port2 uint32) []expr {
	first := uint32(unix.NFT_REG32_00)
	second := first + f.size/4 + 1
	return []expr{
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, addr, f.size, first),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, port, 2, second-1),
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, addr2, f.size, second),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, port2, 2, second+f.size/4),
	}
}

// elementsAtOnce keeps the attribute that has them below 64 KiB.
const elementsAtOnce = 900

func (b *batch) elements(table string, f *family, keys [][]byte) {
	for len(keys) > 0 {
		some := keys[:min(len(keys), elementsAtOnce)]
		keys = keys[len(some):]
		b.table(unix.NFT_MSG_NEWSETELEM, netlink.Create, func(e *netlink.AttributeEncoder) {
			e.String(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			e.String(unix.NFTA_SET_ELEM_LIST_SET, f.set)
			e.Uint32(unix.NFTA_SET_ELEM_LIST_SET_ID, f.id) // of this transaction, if it is made there
			e.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, encodeKeys(some))
		})
	}
}

// encodeKeys writes the elements of a set: there may be ten thousands of them,
// so this goes without closures.
func encodeKeys(keys [][]byte) []byte {
	if len(keys) == 0 {
		return nil
	}
	out := make([]byte, 0, len(keys)*(len(keys[0])+3*unix.SizeofNlAttr))
	attr := func(typ, size int) {
		out = binary.NativeEndian.AppendUint16(out, uint16(unix.SizeofNlAttr+size))
		out = binary.NativeEndian.AppendUint16(out, uint16(typ))
	}
	for _, k := range keys { // keys are multiples of 4 bytes long: no padding
		attr(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, len(k)+2*unix.SizeofNlAttr)
		attr(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_KEY, len(k)+unix.SizeofNlAttr)
		attr(unix.NFTA_DATA_VALUE, len(k))
		out = append(out, k...)
	}
	return out
}

// setKeys returns the keys of both sets: each flow once, its lesser end first, also if
// both its ends are there, as they are of flows between two sockets of one tree. There
// may be ten thousands of them, and what they belong to stands still.
func setKeys(flows []Flow) [2][][]byte {
	var out [2][][]byte
	count, size := countKeys(flows)
	room := make([]byte, 0, size)
	out[0], out[1] = make([][]byte, 0, count[0]), make([][]byte, 0, count[1])
	seen := seenKeys{make(map[[16]byte]bool, count[0]), make(map[[40]byte]bool, count[1])}
	for _, f := range flows {
		if f.toPort() {
			continue
		}
		f = f.canonical()
		i := 0
		if f.Local.Addr().Is6() {
			i = 1
		}
		lesser, greater := f.Local, f.Remote
		if lesser.Compare(greater) > 0 {
			lesser, greater = greater, lesser
		}
		n := len(room)
		room = appendKey(room, lesser, greater)
		if k := room[n:len(room):len(room)]; seen.add(k) {
			out[i] = append(out[i], k)
		}
	}
	return out
}

// countKeys returns how many keys there are of each family at most, and how many bytes
// all of them have.
func countKeys(flows []Flow) (count [2]int, size int) {
	for _, f := range flows {
		if f.toPort() {
			continue
		}
		i := 0
		if f.Local.Addr().Unmap().Is6() {
			i = 1
		}
		count[i]++
		size += int(families[i].keySize())
	}
	return count, size
}

// seenKeys are those that are in a set already, by their size.
type seenKeys struct {
	four map[[16]byte]bool
	six  map[[40]byte]bool
}

// add tells whether a key is new. One of two addresses that don't go together, which
// an image may have, is left to the kernel to refuse.
func (s *seenKeys) add(k []byte) bool {
	n := len(s.four) + len(s.six)
	switch len(k) {
	case 16:
		s.four[[16]byte(k)] = true
	case 40:
		s.six[[40]byte(k)] = true
	default:
		return true
	}
	return len(s.four)+len(s.six) > n
}

func appendKey(k []byte, from, to netip.AddrPort) []byte {
	for _, a := range [...]netip.AddrPort{from, to} {
		if ip := a.Addr(); ip.Is4() {
			four := ip.As4()
			k = append(k, four[:]...)
		} else {
			six := ip.As16()
			k = append(k, six[:]...)
		}
		k = append(binary.BigEndian.AppendUint16(k, a.Port()), 0, 0)
	}
	return k
}
