package netlock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// Who gets through to a listener after its queue was looked at last would be reset when
// its tree is killed. So from right before that look on, first segments (SYN) to the
// tree's listeners are dropped: their senders try again after a second, as after a lost
// packet. From where they came is noted by the kernel, so that they can be held back
// until the restore, too, and aren't told that nobody is there. It is on input only.

// shut is the chain that what comes to such a listener goes through.
const shut = "shut"

// comers are the sets of the connections that somebody has tried to begin, by family.
var comers = [2]family{
	{"comers4", 5, unix.NFPROTO_IPV4, 12, 16, 4, keyType(typeIPv4)},
	{"comers6", 6, unix.NFPROTO_IPV6, 8, 24, 16, keyType(typeIPv6)},
}

// mostComers is how many are noted. Those beyond are dropped all the same.
const mostComers = 1 << 16

// Shut has who begins to connect to one of these listeners try again, from now until Pass or
// the end of the lock: their flows are to ports, of TCP. All in one transaction, under a name
// that nobody else uses, or that of Prepare.
func (l *Lock) Shut(name string, listeners []Flow) error {
	keys := portKeys(listeners)
	if len(keys[0])+len(keys[1]) == 0 {
		return nil
	}
	b := &batch{}
	if l.name != "" {
		name = l.name
		b.begin()
	} else {
		b.lock(name, flagOwner, setKeys(nil))
	}
	b.shut(name, keys)
	b.acknowledge()
	if err := exchange(l.sock.Int(), b.end()); err != nil {
		l.unsure = true
		return fmt.Errorf("hold back who connects to %d listeners: %w", len(listeners), l.taken(err, name))
	}
	l.name, l.holds, l.shut = name, true, true
	return nil
}

// Comers returns the flows of those who have tried since Shut, none if it was never called.
func (l *Lock) Comers() (flows []Flow, err error) {
	if !l.shut {
		return nil, nil
	}
	c := linux.NetlinkOn(l.sock.Int())
	for i := range comers {
		err := eachElement(c, l.name, comers[i].set, func(k []byte) {
			if from, to, ok := parseKey(k); ok {
				flows = append(flows, Flow{Protocol: unix.IPPROTO_TCP, Local: to, Remote: from})
			}
		})
		if err != nil && !errors.Is(err, unix.ENOENT) { // somebody may have flushed the rules
			return nil, fmt.Errorf("ask who has tried to connect: %w", err)
		}
	}
	return flows, nil
}

// shut adds what drops first segments to ports.
func (b *batch) shut(table string, keys [2][][]byte) {
	b.table(unix.NFT_MSG_NEWCHAIN, netlink.Create, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_CHAIN_TABLE, table)
		e.String(unix.NFTA_CHAIN_NAME, shut)
	})
	for i := range comers {
		f := &comers[i]
		b.setWith(table, f, f.keySize(), unix.NFT_SET_EVAL, mostComers)
		is := append(first(), meta(unix.NFT_META_NFPROTO), equal([]byte{f.proto}))
		b.rule(table, shut, append(append(is, between(f)...), note(f))...)
	}
	b.rule(table, shut, append(first(), verdict(nfDrop))...)
	b.atPorts(table, shut, keys)
}

// first goes on if the packet is the first one of a connection of TCP.
func first() []expr {
	const flags, syn, all = 13, 0x02, 0x17 // of SYN, ACK, RST and FIN
	return []expr{payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, flags, 1, unix.NFT_REG_1), masked([]byte{all}), equal([]byte{syn})}
}

// eachElement calls fn with every key of a set.
func eachElement(c *linux.Netlink, table, set string, fn func(key []byte)) error {
	e := netlink.NewAttributeEncoder()
	e.String(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	e.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	b, err := e.Encode()
	if err != nil {
		return err
	}
	return c.Ask(message(unix.NFT_MSG_GETSETELEM), netlink.Dump, bytes.Join([][]byte{inet, b}, nil), func(_ uint16, body []byte) error {
		return eachKey(body[min(nfgenmsg, len(body)):], fn)
	})
}

// parseKey is the inverse of appendKey.
func parseKey(k []byte) (from, to netip.AddrPort, ok bool) {
	half := len(k) / 2
	if half != 8 && half != 20 || len(k)%2 != 0 {
		return from, to, false
	}
	end := func(b []byte) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(b[:half-4])
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[half-4:]))
	}
	return end(k[:half]), end(k[half:]), true
}
