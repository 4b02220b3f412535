package image

import "hash/crc32"

// Checksums are CRC32C: every damage of up to 32 bits in a row is found, and
// all else but for one in four thousand million. CPUs have an instruction for
// it, so it costs a tenth of copying. It is no protection against somebody who
// wants to deceive: he can compute it as well.

// checksum extends sum by p.
func checksum(sum uint32, p []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
}

// joined is the checksum of two pieces, one behind the other, of which the
// second has n bytes: parts of a file may be summed in any order.
//
// A checksum is a polynomial modulo that of CRC32C. To append n bytes is to
// multiply it by x to the power of 8n.
func joined(first, second uint32, n int64) uint32 {
	p := uint32(1) << 31 // x⁰: the highest bit is the lowest power
	for k := 3; n > 0; n, k = n>>1, k+1 {
		if n&1 != 0 {
			p = times(power2[k&31], p)
		}
	}
	return times(p, first) ^ second
}

// power2 is x to the power of 2 to the power of its index.
var power2 = powers()

func powers() (all [32]uint32) {
	p := uint32(1) << 30 // x¹
	for i := range all {
		all[i] = p
		p = times(p, p)
	}
	return all
}

// times multiplies two polynomials.
func times(a, b uint32) (p uint32) {
	for m := uint32(1) << 31; m != 0; m >>= 1 {
		if a&m != 0 {
			p ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ crc32.Castagnoli
		} else {
			b >>= 1
		}
	}
	return p
}
