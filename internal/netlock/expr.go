package netlock

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// expr is an expression of a rule: it writes NFTA_EXPR_NAME and NFTA_EXPR_DATA.
type expr = func(*netlink.AttributeEncoder) error

func expression(name string, data func(*netlink.AttributeEncoder)) expr {
	return func(e *netlink.AttributeEncoder) error {
		e.String(unix.NFTA_EXPR_NAME, name)
		e.Nested(unix.NFTA_EXPR_DATA, func(e *netlink.AttributeEncoder) error {
			data(e)
			return nil
		})
		return nil
	}
}

// meta loads a property of the packet into the first register.
func meta(key uint32) expr { return metaTo(key, unix.NFT_REG_1) }

// metaTo loads a property of the packet into a register.
func metaTo(key, register uint32) expr {
	return expression("meta", func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NFTA_META_KEY, key)
		e.Uint32(unix.NFTA_META_DREG, register)
	})
}

// equal goes on if the first register has this value.
func equal(value []byte) expr {
	return expression("cmp", func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		e.Uint32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ)
		e.Nested(unix.NFTA_CMP_DATA, func(e *netlink.AttributeEncoder) error {
			e.Bytes(unix.NFTA_DATA_VALUE, value)
			return nil
		})
	})
}

// masked keeps these bits of the first register.
func masked(bits []byte) expr {
	return expression("bitwise", func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NFTA_BITWISE_SREG, unix.NFT_REG_1)
		e.Uint32(unix.NFTA_BITWISE_DREG, unix.NFT_REG_1)
		e.Uint32(unix.NFTA_BITWISE_LEN, uint32(len(bits)))
		for typ, v := range map[uint16][]byte{unix.NFTA_BITWISE_MASK: bits, unix.NFTA_BITWISE_XOR: make([]byte, len(bits))} {
			e.Nested(typ, func(e *netlink.AttributeEncoder) error {
				e.Bytes(unix.NFTA_DATA_VALUE, v)
				return nil
			})
		}
	})
}

// payload loads a part of a header into a register.
func payload(base, offset, size, register uint32) expr {
	return expression("payload", func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NFTA_PAYLOAD_DREG, register)
		e.Uint32(unix.NFTA_PAYLOAD_BASE, base)
		e.Uint32(unix.NFTA_PAYLOAD_OFFSET, offset)
		e.Uint32(unix.NFTA_PAYLOAD_LEN, size)
	})
}

// lookup goes on if the registers hold a key that is in the set.
func lookup(f *family) expr {
	return expression("lookup", func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_LOOKUP_SET, f.set)
		e.Uint32(unix.NFTA_LOOKUP_SREG, unix.NFT_REG32_00)
		e.Uint32(unix.NFTA_LOOKUP_SET_ID, f.id)
	})
}

// note puts what the registers hold into the set.
func note(f *family) expr {
	return expression("dynset", func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_DYNSET_SET_NAME, f.set)
		e.Uint32(unix.NFTA_DYNSET_SET_ID, f.id)
		e.Uint32(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_ADD)
		e.Uint32(unix.NFTA_DYNSET_SREG_KEY, unix.NFT_REG32_00)
	})
}

// verdict ends the way of the packet: nfAccept or nfDrop.
func verdict(code uint32) expr { return verdictTo(code, "") }

// jump has the packet go through another chain.
func jump(chain string) expr { return verdictTo(nftJump, chain) }

// nftJump is NFT_JUMP, -3.
const nftJump = 1<<32 - 3

func verdictTo(code uint32, chain string) expr {
	return expression("immediate", func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		e.Nested(unix.NFTA_IMMEDIATE_DATA, func(e *netlink.AttributeEncoder) error {
			e.Nested(unix.NFTA_DATA_VERDICT, func(e *netlink.AttributeEncoder) error {
				e.Uint32(unix.NFTA_VERDICT_CODE, code)
				if chain != "" {
					e.String(unix.NFTA_VERDICT_CHAIN, chain)
				}
				return nil
			})
			return nil
		})
	})
}
