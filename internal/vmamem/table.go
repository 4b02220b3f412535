package vmamem

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"glis.dev/glis/internal/proc"
)

// table says what smaps shows for each of the kernel's bits.
type table struct {
	known uint64     // bits whose code was learnt
	codes [64]string // two letters
	flags [64]proc.VmFlags

	gate *proc.VMA // [vsyscall], which is no mapping of its task's; nil if there is none
}

// shown returns what smaps would show for a mapping with these bits; ok is false
// if it can't be told. The bits of a protection key have no code and so are
// never learnt: without an unknown bit the key is 0.
func (t *table) shown(set uint64) (flags proc.VmFlags, unknown []string, ok bool) {
	if set&^t.known != 0 {
		return 0, nil, false
	}
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros64(set)
		flags |= t.flags[i]
		if t.flags[i] == 0 {
			unknown = append(unknown, t.codes[i])
		}
	}
	return flags, unknown, true
}

// filler fills in flags. Neighbours and next but one neighbours often have the
// same.
type filler struct {
	table *table
	last  [2]struct {
		set     uint64
		flags   proc.VmFlags
		unknown []string
	}
}

func (f *filler) fill(v *proc.VMA, set uint64) error {
	v.Pkey = 0
	for i := range f.last {
		if l := &f.last[i]; l.set == set {
			v.Flags, v.Unknown = l.flags, l.unknown
			return nil
		}
	}
	var ok bool
	if v.Flags, v.Unknown, ok = f.table.shown(set); !ok {
		return fmt.Errorf("%v has flags %#x, whose meaning is not known", v, set&^f.table.known)
	}
	f.last[1] = f.last[0]
	f.last[0].set, f.last[0].flags, f.last[0].unknown = set, v.Flags, v.Unknown
	return nil
}

// gateFlags fills in the mapping that every task has but no iterator shows, and
// returns the others. It is the last one.
func (t *table) gateFlags(vmas []proc.VMA) ([]proc.VMA, error) {
	n := len(vmas) - 1
	if n < 0 || vmas[n].Name != gateName {
		return vmas, nil
	}
	v := &vmas[n]
	if t.gate == nil || t.gate.Start != v.Start || t.gate.End != v.End {
		return nil, fmt.Errorf("%w: the engine itself has no %v", ErrUnavailable, v)
	}
	v.Flags, v.Unknown, v.Pkey = t.gate.Flags, t.gate.Unknown, t.gate.Pkey
	return vmas[:n], nil
}

const gateName = "[vsyscall]"

// learn takes over what one mapping's codes in smaps tell of its bits: the
// kernel writes at most one for each, in their order. If there are fewer, some
// bits have none (protection keys), and nothing can be told.
func (t *table) learn(set uint64, codes []string) error {
	if bits.OnesCount64(set) != len(codes) {
		return nil
	}
	for _, code := range codes {
		i := bits.TrailingZeros64(set)
		set &= set - 1
		if t.known&(1<<i) != 0 && t.codes[i] != code {
			return fmt.Errorf("%w: smaps shows flag %d of a mapping as %q and as %q", ErrUnavailable, i, t.codes[i], code)
		}
		t.known |= 1 << i
		t.codes[i], t.flags[i] = code, flagsByCode[code]
	}
	return nil
}

// flagsByCode has the flags of proc by their codes.
var flagsByCode = func() map[string]proc.VmFlags {
	m := map[string]proc.VmFlags{}
	for i := range 64 {
		f := proc.VmFlags(1) << i
		if code := f.String(); code != "??" {
			m[code] = f
		}
	}
	return m
}()

// check compares what the table says of a mapping with what smaps does.
func (t *table) check(set uint64, want *proc.VMA) error {
	flags, unknown, ok := t.shown(set)
	if !ok {
		return nil // it would be left to smaps
	}
	if flags != want.Flags || want.Pkey != 0 || !slices.Equal(unknown, want.Unknown) {
		return fmt.Errorf("%w: %v has flags %v %q by its bits %#x, and %v %q, key %d, in smaps", ErrUnavailable,
			want, flags, unknown, set, want.Flags, want.Unknown, want.Pkey)
	}
	return nil
}

// codesOf returns the codes of every mapping of an smaps in their order, by the
// mapping's start.
func codesOf(smaps []byte) map[uint64][]string {
	out := map[uint64][]string{}
	var start uint64
	var ok bool
	for line := range bytes.Lines(smaps) {
		words := bytes.Fields(line)
		if len(words) == 0 {
			continue
		}
		if key, isKey := bytes.CutSuffix(words[0], []byte(":")); !isKey {
			from, _, _ := bytes.Cut(words[0], []byte("-"))
			v, err := strconv.ParseUint(string(from), 16, 64)
			start, ok = v, err == nil
		} else if ok && string(key) == "VmFlags" {
			var codes []string
			for _, w := range words[1:] {
				codes = append(codes, string(w))
			}
			out[start] = codes
		}
	}
	return out
}
