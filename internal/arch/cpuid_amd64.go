package arch

import "sync"

// cpuid executes the CPUID instruction.
func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// xgetbv reads XCR0; the CPU must have OSXSAVE.
func xgetbv() (eax, edx uint32)

// xlayout is where this CPU keeps the parts of the extended register state in
// the standard (not compacted) XSAVE format, Intel SDM volume 1, chapter 13.
// The offsets of the later parts differ between makers.
type xlayout struct {
	enabled uint64 // components the system has enabled: XCR0
	dynamic uint64 // those a process must ask for (AMX tile data)
	size    int    // of the whole state; 0: this CPU has no XSAVE
	at, len [64]int
}

// end returns where a component ends.
func (l *xlayout) end(i int) int { return l.at[i] + l.len[i] }

// layout is a fact of the machine. It is kept because CPUID takes tens of
// microseconds under a hypervisor and every thread needs the answer.
var layout = sync.OnceValue(readLayout)

func readLayout() *xlayout {
	const osxsave, xfd, leafXState = 1 << 27, 1 << 2, 0xd
	l := &xlayout{}
	highest, _, _, _ := cpuid(0, 0)
	if _, _, ecx, _ := cpuid(1, 0); highest < leafXState || ecx&osxsave == 0 {
		return l
	}
	lo, hi := xgetbv()
	l.enabled = uint64(hi)<<32 | uint64(lo)
	l.at[xSSE], l.size = 0, xsaveMin
	l.len[xX87], l.len[xSSE] = fxsaveSize, fxsaveSize
	for i := xAVX; i < 63; i++ {
		if l.enabled>>i&1 == 0 {
			continue
		}
		size, offset, flags, _ := cpuid(leafXState, uint32(i))
		l.at[i], l.len[i] = int(offset), int(size)
		l.size = max(l.size, l.end(i))
		if flags&xfd != 0 {
			l.dynamic |= 1 << i
		}
	}
	return l
}
