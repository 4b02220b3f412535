package options

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Verbosity is how much is logged, from 0 (nothing) to 4 (everything).
type Verbosity int

// maxVerbosity keeps -vvvv… from overflowing; from 4 on nothing is added.
const maxVerbosity = 1 << 16

// Set reads criu's three spellings: "" is one more than before, "vvv" that
// many and one more, a number the number itself.
func (v *Verbosity) Set(s string) error {
	if s == "" || s[0] == 'v' {
		*v = Verbosity(min(int(*v)+len(s)+1, maxVerbosity))
		return nil
	}
	// criu takes the digits that the argument begins with, and 0 if there are
	// none: its own tests say -verbosity=0, which is -v with "erbosity=0".
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			break
		}
		n = min(10*n+int(c-'0'), maxVerbosity)
	}
	*v = Verbosity(n)
	return nil
}

// Size is a number of bytes.
type Size uint64

// Set reads a number of bytes, or of KiB, MiB or GiB if K, M or G follows.
func (z *Size) Set(s string) error {
	shift := 0
	for i, unit := range "KMG" {
		if rest, ok := strings.CutSuffix(s, string(unit)); ok {
			s, shift = rest, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return errBadValue
	}
	*z = Size(n << shift)
	return nil
}

// NetworkLock is how the packets of dumped connections are held back.
type NetworkLock string

// The ways to hold packets back. Glis uses nftables for the first two.
const (
	NetworkLockIptables NetworkLock = "iptables"
	NetworkLockNftables NetworkLock = "nftables"
	NetworkLockSkip     NetworkLock = "skip"
)

// Set reads a method; "none" is another word for "skip".
func (n *NetworkLock) Set(s string) error {
	if s == "none" {
		s = string(NetworkLockSkip)
	}
	return setWord(n, s, NetworkLockIptables, NetworkLockNftables, NetworkLockSkip)
}

// CgroupMode is what is done about cgroups.
type CgroupMode string

// The modes of criu's --manage-cgroups.
const (
	CgroupNone   CgroupMode = "none"
	CgroupProps  CgroupMode = "props"
	CgroupSoft   CgroupMode = "soft"
	CgroupFull   CgroupMode = "full"
	CgroupStrict CgroupMode = "strict"
	CgroupIgnore CgroupMode = "ignore"
)

// Set reads a mode.
func (c *CgroupMode) Set(s string) error {
	return setWord(c, s, CgroupNone, CgroupProps, CgroupSoft, CgroupFull, CgroupStrict, CgroupIgnore)
}

// FileValidation is how a file is known to be still the same on restore.
type FileValidation string

// The methods of criu's --file-validation.
const (
	ValidateFileSize FileValidation = "filesize"
	ValidateBuildID  FileValidation = "buildid"
)

// Set reads a method.
func (f *FileValidation) Set(s string) error {
	return setWord(f, s, ValidateFileSize, ValidateBuildID)
}

// CPUCap is a set of processor capabilities to compare.
type CPUCap uint32

// The capabilities, with criu's numbers (criu_opts.cpu_cap).
const (
	CPUCapFPU   CPUCap = 1 << 0
	CPUCapCPU   CPUCap = 1 << 1
	CPUCapIns   CPUCap = 1 << 2
	CPUCapImage CPUCap = 1 << 3
	CPUCapAll          = CPUCapFPU | CPUCapCPU | CPUCapIns
)

// Set reads a list such as "cpu,^fpu" and adds it to what was set before.
// Whatever is not "none" also writes the capabilities to an image on dump.
func (c *CPUCap) Set(s string) error {
	set := *c
	for word := range strings.SplitSeq(s, ",") {
		name := strings.TrimLeft(word, "^")
		out := (len(word)-len(name))%2 == 1
		var bits CPUCap
		switch name {
		case "fpu":
			bits = CPUCapFPU
		case "cpu":
			bits = CPUCapCPU
		case "ins":
			bits = CPUCapIns
		case "all":
			bits = CPUCapAll
		case "none":
			// "not none" is everything, and "none" takes everything out.
			bits, out = CPUCapAll|CPUCapImage, !out
		default:
			return fmt.Errorf("unknown capability %q", name)
		}
		if out {
			set &^= bits
		} else {
			set |= bits
		}
	}
	if set != 0 {
		set |= CPUCapImage
	}
	*c = set
	return nil
}

// setWord assigns s if it is one of words.
func setWord[T ~string](to *T, s string, words ...T) error {
	if !slices.Contains(words, T(s)) {
		return fmt.Errorf("%q is none of %s", s, joinWords(words))
	}
	*to = T(s)
	return nil
}

func joinWords[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
