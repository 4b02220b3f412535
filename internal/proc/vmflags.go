package proc

import (
	"math/bits"
	"strings"
)

// VmFlags are the properties of a mapping that smaps shows as two-letter
// codes in its VmFlags line, see proc_pid_smaps(5). The bits are ours, not the
// kernel's VM_*, which differ between versions.
type VmFlags uint64

// One flag per code. Where a kernel older than 6.18 lacks the code, the
// version that brought it is noted.
const (
	VmRead        VmFlags = 1 << iota // rd
	VmWrite                           // wr
	VmExec                            // ex
	VmShared                          // sh
	VmMayRead                         // mr
	VmMayWrite                        // mw
	VmMayExec                         // me
	VmMayShare                        // ms
	VmGrowsDown                       // gd: MAP_GROWSDOWN
	VmPFNMap                          // pf: pages without struct page
	VmDenyWrite                       // dw: gone since 5.16
	VmLocked                          // lo: mlock(2)
	VmIO                              // io: memory of a device
	VmSeqRead                         // sr: MADV_SEQUENTIAL
	VmRandRead                        // rr: MADV_RANDOM
	VmDontCopy                        // dc: MADV_DONTFORK
	VmDontExpand                      // de: no mremap(2) to a larger size
	VmLockOnFault                     // lf: mlock2(MLOCK_ONFAULT)
	VmAccount                         // ac: counts for overcommit
	VmNoReserve                       // nr: MAP_NORESERVE
	VmHugeTLB                         // ht
	VmSync                            // sf: MAP_SYNC
	VmArch1                           // ar: PAT on x86
	VmWipeOnFork                      // wf: MADV_WIPEONFORK
	VmDontDump                        // dd: MADV_DONTDUMP
	VmSoftDirty                       // sd
	VmMixedMap                        // mm
	VmHugePage                        // hg: MADV_HUGEPAGE
	VmNoHugePage                      // nh: MADV_NOHUGEPAGE
	VmMergeable                       // mg: MADV_MERGEABLE
	VmUffdMissing                     // um
	VmUffdWP                          // uw
	VmUffdMinor                       // ui
	VmMTE                             // mt: PROT_MTE (arm64)
	VmBTI                             // bt: PROT_BTI (arm64)
	VmShadowStack                     // ss: 6.6
	VmSealed                          // sl: mseal(2), 6.10
	VmDroppable                       // dp: MAP_DROPPABLE, 6.11
	VmGuard                           // gu: may hold guard regions, 6.19
	VmNonlinear                       // nl: gone since 4.0
)

// vmFlagNames are the codes in the order of the constants.
const vmFlagNames = "rdwrexshmrmwmemsgdpfdwloiosrrrdcdelfacnrhtsfarwfddsdmmhgnhmgumuwuimtbtsssldpgunl"

// vmFlagCodes finds the flag of a code.
var vmFlagCodes = func() (codes [26 * 26]VmFlags) {
	for i := 0; i < len(vmFlagNames); i += 2 {
		codes[codeIndex(vmFlagNames[i], vmFlagNames[i+1])] = 1 << (i / 2)
	}
	return codes
}()

func codeIndex(a, b byte) int { return int(a-'a')*26 + int(b-'a') }

// flagOf returns the flag of a code, or 0.
func flagOf(code []byte) VmFlags {
	if len(code) != 2 || code[0]-'a' > 25 || code[1]-'a' > 25 {
		return 0
	}
	return vmFlagCodes[codeIndex(code[0], code[1])]
}

// Has tells whether all of want are set.
func (f VmFlags) Has(want VmFlags) bool { return f&want == want }

// String returns the codes as smaps does, without a blank at the end.
func (f VmFlags) String() string {
	var s strings.Builder
	for ; f != 0; f &= f - 1 {
		i := 2 * bits.TrailingZeros64(uint64(f))
		if s.Len() > 0 {
			s.WriteByte(' ')
		}
		if i >= len(vmFlagNames) {
			s.WriteString("??")
			continue
		}
		s.WriteString(vmFlagNames[i : i+2])
	}
	return s.String()
}
