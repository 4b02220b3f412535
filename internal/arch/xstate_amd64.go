package arch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Components of the extended register state: bits of XCR0.
const (
	xX87    = 0
	xSSE    = 1
	xAVX    = 2
	xBndReg = 3
	xBndCSR = 4
	xOpmask = 5
	xZMMHi  = 6
	xHi16   = 7
	xPKRU   = 9

	xLegacy = 1<<xX87 | 1<<xSSE
	// xCore is what criu's core image has fields for.
	xCore = xLegacy | 1<<xAVX | 1<<xBndReg | 1<<xBndCSR | 1<<xOpmask | 1<<xZMMHi | 1<<xHi16 | 1<<xPKRU
)

// ErrRegisters says that saved registers don't fit this CPU.
var ErrRegisters = errors.New("registers that this CPU does not have")

// xName names a component for messages.
func xName(i int) string {
	switch i {
	case xAVX:
		return "AVX"
	case xBndReg, xBndCSR:
		return "MPX"
	case xOpmask, xZMMHi, xHi16:
		return "AVX-512"
	case xPKRU:
		return "protection keys"
	case 17, 18:
		return "AMX"
	case 19:
		return "APX"
	}
	return fmt.Sprintf("component %d", i)
}

// xInUse returns which components of a state hold something: XSTATE_BV.
func xInUse(xstate []byte) uint64 {
	if len(xstate) < xsaveMin {
		return xLegacy
	}
	return binary.LittleEndian.Uint64(xstate[fxsaveSize:])
}

// XStateSize is the size of NT_X86_XSTATE in bytes: what PTRACE_GETREGSET
// gives and the only size PTRACE_SETREGSET takes.
func XStateSize() int { return layout().size }

// TrimXState returns a copy of a state that ends after its last component in
// use.
func TrimXState(xstate []byte) []byte { return bytes.Clone(layout().trim(xstate)) }

func (l *xlayout) trim(xstate []byte) []byte {
	used := xInUse(xstate) &^ xLegacy
	if len(xstate) <= xsaveMin || used&^l.enabled != 0 {
		return xstate
	}
	end := xsaveMin
	for ; used != 0; used &= used - 1 {
		end = max(end, l.end(bits.TrailingZeros64(used)))
	}
	return xstate[:min(end, len(xstate))]
}

// PadXState gives a trimmed state its full size again, as SetXState needs it.
func PadXState(xstate []byte) []byte {
	if n := layout().size; len(xstate) < n {
		return append(make([]byte, 0, n), xstate...)[:n]
	}
	return xstate
}

// An extra holds what criu's image has no field for, as a list of
// { u32 component; u32 length; bytes }. Unlike the raw state it means the same
// on a CPU that keeps its components elsewhere.
const extraHead = 8

// XStateExtra returns the components in use that PutCore can't put into a core
// image (AMX tiles), or nil if there are none, which is nearly always.
func XStateExtra(xstate []byte) ([]byte, error) { return layout().extra(xstate) }

func (l *xlayout) extra(xstate []byte) ([]byte, error) {
	var out []byte
	for used := xInUse(xstate) &^ xCore; used != 0; used &= used - 1 {
		i := bits.TrailingZeros64(used)
		if l.len[i] == 0 || l.end(i) > len(xstate) {
			return nil, fmt.Errorf("extended registers: %s is in use, but CPUID does not say where it is", xName(i))
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(i))
		out = binary.LittleEndian.AppendUint32(out, uint32(l.len[i]))
		out = append(out, xstate[l.at[i]:l.end(i)]...)
	}
	return out, nil
}

// AddXStateExtra puts the components of an extra into a state that GetCore
// returned, and returns the state.
func AddXStateExtra(xstate, extra []byte) ([]byte, error) { return layout().add(xstate, extra) }

func (l *xlayout) add(xstate, extra []byte) ([]byte, error) {
	le := binary.LittleEndian
	full := append(make([]byte, 0, max(l.size, len(xstate))), xstate...)[:max(l.size, len(xstate))]
	for len(extra) > 0 {
		if len(extra) < extraHead {
			return nil, fmt.Errorf("extra registers: cut short")
		}
		i, n := le.Uint32(extra), le.Uint32(extra[4:])
		extra = extra[extraHead:]
		if i >= 63 || xCore>>i&1 != 0 || uint64(n) > uint64(len(extra)) {
			return nil, fmt.Errorf("extra registers: component %d of %d bytes makes no sense", i, n)
		}
		if l.enabled>>i&1 == 0 || l.len[i] != int(n) || l.size < xsaveMin {
			return nil, fmt.Errorf("%s is in use: %w; restore on a CPU that has it", xName(int(i)), ErrRegisters)
		}
		copy(full[l.at[i]:], extra[:n])
		le.PutUint64(full[fxsaveSize:], le.Uint64(full[fxsaveSize:])|1<<i)
		extra = extra[n:]
	}
	return l.trim(full), nil
}

// DynamicXState returns the components that a process must ask the kernel for
// before it uses them (ARCH_REQ_XCOMP_PERM), as a mask; usually 0.
func DynamicXState() uint64 { return layout().dynamic }
