package arch

import (
	"encoding/binary"
	"fmt"

	x86 "glis.dev/glis/image/criu/core-x86"
	core "glis.dev/glis/image/criu/criu-core"
)

// Machine is this CPU's name in core images.
const Machine = core.CoreEntry_X86_64

// Lengths of the arrays in criu's messages.
const (
	stWords  = 32 // u32: 8 registers of 16 bytes
	xmmWords = 64 // u32: 16 registers of 16 bytes
)

// FXSAVE area, Intel SDM volume 1, section 10.5.1.
const (
	fxCwd, fxSwd, fxTwd, fxFop = 0, 2, 4, 6
	fxRip, fxRdp               = 8, 16
	fxMxcsr, fxMxcsrMask       = 24, 28
	fxST, fxXMM                = 32, 160
)

// xArea is one component of the state that has a field in criu's message.
type xArea struct {
	bit, size int
	u32       func(*x86.UserX86XsaveEntry) *[]uint32
	u64       func(*x86.UserX86XsaveEntry) *[]uint64
}

// xAreas returns them in the order of their bits.
func xAreas() [7]xArea {
	type e = x86.UserX86XsaveEntry
	return [7]xArea{
		{bit: xAVX, size: 256, u32: func(x *e) *[]uint32 { return &x.YmmhSpace }},
		{bit: xBndReg, size: 64, u64: func(x *e) *[]uint64 { return &x.BndregState }},
		{bit: xBndCSR, size: 64, u64: func(x *e) *[]uint64 { return &x.BndcsrState }},
		{bit: xOpmask, size: 64, u64: func(x *e) *[]uint64 { return &x.OpmaskReg }},
		{bit: xZMMHi, size: 512, u64: func(x *e) *[]uint64 { return &x.ZmmUpper }},
		{bit: xHi16, size: 1024, u64: func(x *e) *[]uint64 { return &x.Hi16Zmm }},
		{bit: xPKRU, size: 8, u32: func(x *e) *[]uint32 { return &x.Pkru }},
	}
}

// get copies the component out of the image; nil if the image lacks it.
func (a *xArea) get(x *x86.UserX86XsaveEntry) []byte {
	var b []byte
	if a.u32 != nil {
		for _, v := range *a.u32(x) {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		return b
	}
	for _, v := range *a.u64(x) {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// put copies the component into the image.
func (a *xArea) put(x *x86.UserX86XsaveEntry, b []byte) {
	if a.u32 != nil {
		*a.u32(x) = words32(b)
		return
	}
	w := make([]uint64, len(b)/8)
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	*a.u64(x) = w
}

func words32(b []byte) []uint32 {
	w := make([]uint32, len(b)/4)
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return w
}

// PutCore writes the registers of a thread and its extended state
// (NT_X86_XSTATE, may be trimmed; nil for none) into thread_info. What the
// thread's clear_tid_addr is stays as it was.
func PutCore(c *core.CoreEntry, r *Regs, xstate []byte) error { return layout().put(c, r, xstate) }

func (l *xlayout) put(c *core.CoreEntry, r *Regs, xstate []byte) error {
	c.Mtype = Machine.Enum()
	ti := c.ThreadInfo
	if ti == nil {
		ti = &x86.ThreadInfoX86{ClearTidAddr: new(uint64)}
		c.ThreadInfo = ti
	}
	ti.Gpregs = putRegs(r)
	if xstate == nil {
		return nil
	}
	if len(xstate) < fxsaveSize {
		return fmt.Errorf("extended registers: %d bytes are too few", len(xstate))
	}
	ti.Fpregs = putLegacy(xstate)
	if len(xstate) >= xsaveMin {
		return l.putXSave(ti.Fpregs, xstate)
	}
	return nil
}

// putRegs keeps all values in one allocation: there may be thousands of
// threads.
func putRegs(r *Regs) *x86.UserX86RegsEntry {
	v := [...]uint64{
		r.R15, r.R14, r.R13, r.R12, r.Rbp, r.Rbx, r.R11, r.R10, r.R9, r.R8, r.Rax, r.Rcx, r.Rdx, r.Rsi, r.Rdi,
		r.Orig_rax, r.Rip, r.Cs, r.Eflags, r.Rsp, r.Ss, r.Fs_base, r.Gs_base, r.Ds, r.Es, r.Fs, r.Gs,
	}
	e := &x86.UserX86RegsEntry{Mode: x86.UserX86RegsMode_NATIVE.Enum()}
	for i, f := range regFields(e) {
		*f = &v[i]
	}
	return e
}

// regFields returns the registers of a message in the order of their field
// numbers.
func regFields(e *x86.UserX86RegsEntry) [27]**uint64 {
	return [27]**uint64{
		&e.R15, &e.R14, &e.R13, &e.R12, &e.Bp, &e.Bx, &e.R11, &e.R10, &e.R9, &e.R8, &e.Ax, &e.Cx, &e.Dx, &e.Si, &e.Di,
		&e.OrigAx, &e.Ip, &e.Cs, &e.Flags, &e.Sp, &e.Ss, &e.FsBase, &e.GsBase, &e.Ds, &e.Es, &e.Fs, &e.Gs,
	}
}

// putLegacy writes what every 64-bit CPU has: x87 and SSE.
func putLegacy(x []byte) *x86.UserX86FpregsEntry {
	le := binary.LittleEndian
	u16 := func(at int) *uint32 { v := uint32(le.Uint16(x[at:])); return &v }
	u32 := func(at int) *uint32 { v := le.Uint32(x[at:]); return &v }
	u64 := func(at int) *uint64 { v := le.Uint64(x[at:]); return &v }
	return &x86.UserX86FpregsEntry{
		Cwd: u16(fxCwd), Swd: u16(fxSwd), Twd: u16(fxTwd), Fop: u16(fxFop),
		Rip: u64(fxRip), Rdp: u64(fxRdp), Mxcsr: u32(fxMxcsr), MxcsrMask: u32(fxMxcsrMask),
		StSpace:  words32(x[fxST : fxST+4*stWords]),
		XmmSpace: words32(x[fxXMM : fxXMM+4*xmmWords]),
	}
}

// putXSave writes the components in use. Others are in their initial state,
// which is what a reader takes a missing one for.
func (l *xlayout) putXSave(f *x86.UserX86FpregsEntry, xstate []byte) error {
	used := xInUse(xstate)
	said := used & xCore
	f.Xsave = &x86.UserX86XsaveEntry{XstateBv: &said}
	for _, a := range xAreas() {
		if used>>a.bit&1 == 0 {
			continue
		}
		if l.len[a.bit] != a.size || l.end(a.bit) > len(xstate) {
			return fmt.Errorf("extended registers: %s has %d bytes at %d of %d, expected %d", xName(a.bit), l.len[a.bit], l.at[a.bit], len(xstate), a.size)
		}
		a.put(f.Xsave, xstate[l.at[a.bit]:l.end(a.bit)])
	}
	return nil
}

// GetCore returns the registers and the extended state (trimmed, nil if the
// image has none) of a thread. The registers are not those of a system call:
// an image holds them as they are once the call was made to restart.
//
// It fails if the image is broken, is of a 32-bit thread, or (ErrRegisters)
// uses registers that this CPU lacks.
func GetCore(c *core.CoreEntry) (Regs, []byte, error) { return layout().get(c) }

func (l *xlayout) get(c *core.CoreEntry) (r Regs, xstate []byte, err error) {
	ti := c.GetThreadInfo()
	if c.GetMtype() != Machine || ti.GetGpregs() == nil {
		return r, nil, fmt.Errorf("core image: no x86-64 registers (it is of %v): restore on such a machine", c.GetMtype())
	}
	if r, err = getRegs(ti.Gpregs); err != nil || ti.Fpregs == nil {
		return r, nil, err
	}
	xstate, err = l.getXState(ti.Fpregs)
	return r, xstate, err
}

func getRegs(e *x86.UserX86RegsEntry) (r Regs, err error) {
	to := [27]*uint64{
		&r.R15, &r.R14, &r.R13, &r.R12, &r.Rbp, &r.Rbx, &r.R11, &r.R10, &r.R9, &r.R8, &r.Rax, &r.Rcx, &r.Rdx, &r.Rsi, &r.Rdi,
		&r.Orig_rax, &r.Rip, &r.Cs, &r.Eflags, &r.Rsp, &r.Ss, &r.Fs_base, &r.Gs_base, &r.Ds, &r.Es, &r.Fs, &r.Gs,
	}
	for i, f := range regFields(e) {
		if *f == nil {
			return r, fmt.Errorf("core image: a register is missing")
		}
		*to[i] = **f
	}
	if e.GetMode() != x86.UserX86RegsMode_NATIVE || r.Cs != userCS64 {
		return r, fmt.Errorf("core image: a 32-bit thread (cs %#x): %w", r.Cs, ErrUnsupported)
	}
	r.Orig_rax = ^uint64(0)
	return r, nil
}

func (l *xlayout) getXState(f *x86.UserX86FpregsEntry) ([]byte, error) {
	if len(f.StSpace) < stWords || len(f.XmmSpace) < xmmWords {
		return nil, fmt.Errorf("core image: %d and %d words of x87 and SSE registers, expected %d and %d", len(f.StSpace), len(f.XmmSpace), stWords, xmmWords)
	}
	b := make([]byte, max(l.size, xsaveMin))
	le := binary.LittleEndian
	le.PutUint16(b[fxCwd:], uint16(f.GetCwd()))
	le.PutUint16(b[fxSwd:], uint16(f.GetSwd()))
	le.PutUint16(b[fxTwd:], uint16(f.GetTwd()))
	le.PutUint16(b[fxFop:], uint16(f.GetFop()))
	le.PutUint64(b[fxRip:], f.GetRip())
	le.PutUint64(b[fxRdp:], f.GetRdp())
	le.PutUint32(b[fxMxcsr:], f.GetMxcsr())
	le.PutUint32(b[fxMxcsrMask:], f.GetMxcsrMask())
	for i, v := range f.StSpace[:stWords] {
		le.PutUint32(b[fxST+4*i:], v)
	}
	for i, v := range f.XmmSpace[:xmmWords] {
		le.PutUint32(b[fxXMM+4*i:], v)
	}
	// x87 and SSE values are in the image whether they are said to be in use
	// or not.
	le.PutUint64(b[fxsaveSize:], xLegacy)
	le.PutUint64(b[swBytesOff:], l.enabled)
	if f.Xsave != nil {
		if err := l.getXSave(b, f.Xsave); err != nil {
			return nil, err
		}
	}
	return l.trim(b), nil
}

func (l *xlayout) getXSave(b []byte, x *x86.UserX86XsaveEntry) error {
	le := binary.LittleEndian
	used := uint64(xLegacy)
	for _, a := range xAreas() {
		data := a.get(x)
		if x.GetXstateBv()>>a.bit&1 == 0 || len(data) == 0 {
			continue
		}
		if len(data) != a.size {
			return fmt.Errorf("core image: %d bytes of %s registers, expected %d", len(data), xName(a.bit), a.size)
		}
		if l.enabled>>a.bit&1 == 0 {
			if initial(a.bit, data) {
				continue
			}
			return fmt.Errorf("%s is in use: %w; restore on a CPU that has it", xName(a.bit), ErrRegisters)
		}
		if l.len[a.bit] != a.size || l.end(a.bit) > len(b) {
			return fmt.Errorf("extended registers: this CPU keeps %s in %d bytes, the image in %d", xName(a.bit), l.len[a.bit], a.size)
		}
		copy(b[l.at[a.bit]:], data)
		used |= 1 << a.bit
	}
	le.PutUint64(b[fxsaveSize:], used)
	return nil
}

// initial tells whether a component holds what it has without ever having
// been used, so that a CPU without it loses nothing.
func initial(bit int, data []byte) bool {
	// init_pkru_value of arch/x86/mm/pkeys.c: every task begins with it.
	const initPKRU = 0x55555554
	if bit == xPKRU && binary.LittleEndian.Uint32(data) == initPKRU {
		return true
	}
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}

// SetClearTID and ClearTID are the address that the kernel clears and wakes
// when the thread ends (set_tid_address(2)), in a core image.
func SetClearTID(c *core.CoreEntry, addr uint64) {
	if c.ThreadInfo == nil {
		c.ThreadInfo = &x86.ThreadInfoX86{}
	}
	c.ThreadInfo.ClearTidAddr = &addr
}

// ClearTID returns it; 0 for none.
func ClearTID(c *core.CoreEntry) uint64 { return c.GetThreadInfo().GetClearTidAddr() }

// Segments returns an error if the thread uses segments of its own: a local
// descriptor table, or thread-local segments of 32-bit code. Images have no
// place for the first, and a restored task would lack the second.
func Segments(r *Regs) error {
	const rpl = 3
	for _, s := range [...]struct {
		name string
		sel  uint64
	}{{"ds", r.Ds}, {"es", r.Es}, {"fs", r.Fs}, {"gs", r.Gs}} {
		if s.sel&^rpl != 0 && s.sel != userSS {
			return fmt.Errorf("segment register %s holds %#x", s.name, s.sel)
		}
	}
	if r.Cs != userCS64 || r.Ss != userSS {
		return fmt.Errorf("segment registers cs and ss hold %#x and %#x", r.Cs, r.Ss)
	}
	return nil
}
