package netlock

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// nftaTableOwner is NFTA_TABLE_OWNER of include/uapi/linux/netfilter/nf_tables.h: the
// number of the netlink socket that a table ends with.
const nftaTableOwner = 7

// Owned returns the name of a table of nf_tables that belongs to the netlink socket of
// that number (NFT_TABLE_F_OWNER), "" if there is none.
func Owned(number uint32) (name string, err error) {
	c, err := linux.DialNetlink(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return "", fmt.Errorf("look for tables of nf_tables: %w", err)
	}
	defer c.Close() //nolint:errcheck // only read from
	err = eachTable(c, unix.NFPROTO_UNSPEC, func(d *netlink.AttributeDecoder) {
		table, owner := "", uint32(0)
		for d.Next() {
			switch d.Type() {
			case unix.NFTA_TABLE_NAME:
				table = d.String()
			case nftaTableOwner:
				if b := d.Bytes(); len(b) == 4 {
					owner = binary.BigEndian.Uint32(b)
				}
			}
		}
		if owner == number {
			name = table
		}
	})
	return name, err
}
