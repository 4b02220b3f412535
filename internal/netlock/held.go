package netlock

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// keptPrefix is what the names of tables begin with that stay until a restore.
const keptPrefix = "CRIU-"

// HeldBy returns the name of a table that an earlier dump has left, which holds packets
// of one of these flows back; "" if there is none.
func HeldBy(flows []Flow) (name string, err error) {
	c, err := linux.DialNetlink(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return "", fmt.Errorf("look for network locks: %w", err)
	}
	defer c.Close() //nolint:errcheck // only read from
	names, err := keptTables(c)
	if err != nil || len(names) == 0 {
		return "", err
	}
	keys := setKeys(flows)
	for _, name := range names {
		for i := range families {
			ask := holds
			if len(keys[i]) > fewKeys {
				ask = holdsAny
			}
			held, err := ask(c, name, &families[i], keys[i])
			if err != nil || held {
				return name, err
			}
		}
	}
	return "", nil
}

// fewKeys is how many are asked for one by one, some 5 µs each, since a table may have tens of
// thousands of others.
const fewKeys = 100

func message(msg uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | msg }

// inet is a struct nfgenmsg.
var inet = []byte{unix.NFPROTO_INET, 0, 0, 0}

// keptTables returns the names of tables that earlier dumps have left.
func keptTables(c *linux.Netlink) (names []string, err error) {
	err = eachTable(c, unix.NFPROTO_INET, func(d *netlink.AttributeDecoder) {
		for d.Next() {
			if d.Type() == unix.NFTA_TABLE_NAME && strings.HasPrefix(d.String(), keptPrefix) {
				names = append(names, d.String())
			}
		}
	})
	return names, err
}

// eachTable calls fn with the attributes of every table of nf_tables of a family,
// NFPROTO_UNSPEC for all.
func eachTable(c *linux.Netlink, family byte, fn func(*netlink.AttributeDecoder)) error {
	all := []byte{family, 0, 0, 0} // a struct nfgenmsg
	err := c.Ask(message(unix.NFT_MSG_GETTABLE), netlink.Dump, all, func(_ uint16, body []byte) error {
		d, err := netlink.NewAttributeDecoder(body[min(nfgenmsg, len(body)):])
		if err != nil {
			return err
		}
		fn(d)
		return d.Err()
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) { // there is no nf_tables
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the tables of nf_tables: %w", err)
	}
	return nil
}

// holds tells whether a set of a table has one of these keys.
func holds(c *linux.Netlink, table string, f *family, keys [][]byte) (bool, error) {
	for _, k := range keys {
		e := netlink.NewAttributeEncoder()
		e.String(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		e.String(unix.NFTA_SET_ELEM_LIST_SET, f.set)
		e.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, encodeKeys([][]byte{k}))
		b, err := e.Encode()
		if err != nil {
			return false, err
		}
		err = c.Ask(message(unix.NFT_MSG_GETSETELEM), 0, bytes.Join([][]byte{inet, b}, nil), func(uint16, []byte) error { return nil })
		if err == nil || !errors.Is(err, unix.ENOENT) {
			return err == nil, err
		}
	}
	return false, nil
}

// holdsAny is holds for many keys: it reads the whole set.
func holdsAny(c *linux.Netlink, table string, f *family, keys [][]byte) (held bool, err error) {
	wanted := make(map[string]bool, len(keys))
	for _, k := range keys {
		wanted[string(k)] = true
	}
	err = eachElement(c, table, f.set, func(k []byte) { held = held || wanted[string(k)] })
	if errors.Is(err, unix.ENOENT) { // it isn't there any more
		return false, nil
	}
	return held, err
}

// eachKey calls fn with the keys of a part of a set.
func eachKey(part []byte, fn func([]byte)) error {
	inside := func(b []byte, typ uint16, fn func([]byte) error) error {
		d, err := netlink.NewAttributeDecoder(b)
		if err != nil {
			return err
		}
		for d.Next() {
			if d.Type() == typ {
				if err := fn(d.Bytes()); err != nil {
					return err
				}
			}
		}
		return d.Err()
	}
	return inside(part, unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(list []byte) error {
		return inside(list, unix.NFTA_LIST_ELEM, func(elem []byte) error {
			return inside(elem, unix.NFTA_SET_ELEM_KEY, func(data []byte) error {
				return inside(data, unix.NFTA_DATA_VALUE, func(k []byte) error {
					fn(k)
					return nil
				})
			})
		})
	})
}
