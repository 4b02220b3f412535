package arch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	x86 "glis.dev/glis/image/criu/core-x86"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/proto"
)

// Layouts as CPUs of different makers have them.
func layoutIntel() *xlayout {
	return testLayout(map[int][2]int{
		xAVX: {576, 256}, xBndReg: {960, 64}, xBndCSR: {1024, 64}, xOpmask: {1088, 64}, xZMMHi: {1152, 512},
		xHi16: {1664, 1024}, xPKRU: {2688, 8}, 17: {2752, 64}, 18: {2816, 8192},
	})
}

func layoutAMD() *xlayout {
	return testLayout(map[int][2]int{xAVX: {576, 256}, xOpmask: {832, 64}, xZMMHi: {896, 512}, xHi16: {1408, 1024}, xPKRU: {2432, 8}})
}

func layoutOld() *xlayout { return testLayout(map[int][2]int{xAVX: {576, 256}}) }

func testLayout(areas map[int][2]int) *xlayout {
	l := &xlayout{enabled: xLegacy, size: xsaveMin}
	for i, a := range areas {
		l.at[i], l.len[i] = a[0], a[1]
		l.enabled |= 1 << i
		l.size = max(l.size, l.end(i))
	}
	return l
}

// testState fills the components in use with noise, and nothing else.
func testState(l *xlayout, used uint64) []byte {
	rng := rand.New(rand.NewPCG(1, used))
	x := make([]byte, l.size)
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			x[i] = byte(rng.Uint32())
		}
	}
	fill(0, fxXMM+4*xmmWords)
	x[5] = 0 // of the tag word only one byte exists
	for i := xAVX; i < 63; i++ {
		if used>>i&1 != 0 {
			fill(l.at[i], l.end(i))
		}
	}
	binary.LittleEndian.PutUint64(x[swBytesOff:], l.enabled)
	binary.LittleEndian.PutUint64(x[fxsaveSize:], used)
	return l.trim(x)
}

func testRegs() Regs {
	r := Regs{Cs: userCS64, Ss: userSS, Fs_base: 0x7f0000001000, Gs_base: 0x1234, Eflags: 0x246, Orig_rax: ^uint64(0)}
	for i, p := range []*uint64{&r.R15, &r.R14, &r.R13, &r.R12, &r.Rbp, &r.Rbx, &r.R11, &r.R10, &r.R9, &r.R8, &r.Rax, &r.Rcx, &r.Rdx, &r.Rsi, &r.Rdi, &r.Rip, &r.Rsp} {
		*p = 0x0101010101010101 * uint64(i+1)
	}
	return r
}

// encoded passes an entry through the form it has in a file.
func encoded(t *testing.T, c *core.CoreEntry) *core.CoreEntry {
	t.Helper()
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out := &core.CoreEntry{}
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCoreRoundTrip(t *testing.T) {
	const avx512 = 1<<xOpmask | 1<<xZMMHi | 1<<xHi16
	tests := []struct {
		name   string
		layout *xlayout
		used   uint64
	}{
		{"initial", layoutIntel(), 0},
		{"sse", layoutIntel(), xLegacy},
		{"avx", layoutOld(), xLegacy | 1<<xAVX},
		{"mpx", layoutIntel(), xLegacy | 1<<xBndReg | 1<<xBndCSR},
		{"avx512 intel", layoutIntel(), xLegacy | 1<<xAVX | avx512},
		{"avx512 amd", layoutAMD(), xLegacy | 1<<xAVX | avx512},
		{"pkru only", layoutAMD(), xLegacy | 1<<xPKRU},
		{"all", layoutIntel(), xCore},
		{"amx", layoutIntel(), xLegacy | 1<<17 | 1<<18},
		{"amx and all", layoutIntel(), xCore | 1<<17 | 1<<18},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			want, regs := testState(x.layout, x.used), testRegs()
			c := &core.CoreEntry{}
			if err := x.layout.put(c, &regs, want); err != nil {
				t.Fatal(err)
			}
			extra, err := x.layout.extra(want)
			if err != nil {
				t.Fatal(err)
			}
			if (extra != nil) != (x.used&^xCore != 0) {
				t.Errorf("%d bytes of extra state for components %#x", len(extra), x.used)
			}
			gotRegs, got, err := x.layout.get(encoded(t, c))
			if err != nil {
				t.Fatal(err)
			}
			if got, err = x.layout.add(got, extra); err != nil {
				t.Fatal(err)
			}
			if gotRegs != regs {
				t.Errorf("registers %+v, want %+v", gotRegs, regs)
			}
			// x87 and SSE are always said to be in use; no harm done.
			binary.LittleEndian.PutUint64(want[fxsaveSize:], x.used|xLegacy)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("extended state (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCoreOtherCPU moves images between CPUs that keep things elsewhere.
func TestCoreOtherCPU(t *testing.T) {
	from := layoutIntel()
	regs := testRegs()
	image := func(used uint64, change func(*x86.UserX86XsaveEntry)) *core.CoreEntry {
		c := &core.CoreEntry{}
		if err := from.put(c, &regs, testState(from, used)); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(c.ThreadInfo.Fpregs.Xsave)
		}
		return c
	}
	tests := []struct {
		name string
		c    *core.CoreEntry
		to   *xlayout
		used uint64 // afterwards
		err  string
	}{
		{"elsewhere", image(xLegacy|1<<xAVX|1<<xZMMHi|1<<xPKRU, nil), layoutAMD(), xLegacy | 1<<xAVX | 1<<xZMMHi | 1<<xPKRU, ""},
		{"missing", image(xLegacy|1<<xHi16, nil), layoutOld(), 0, "AVX-512"},
		{"missing but zero", image(xLegacy|1<<xHi16, func(x *x86.UserX86XsaveEntry) { clear(x.Hi16Zmm) }), layoutOld(), xLegacy, ""},
		{"missing but as every task has it", image(xLegacy|1<<xPKRU, func(x *x86.UserX86XsaveEntry) { x.Pkru = []uint32{0x55555554, 0} }), layoutOld(), xLegacy, ""},
		{"missing keys in use", image(xLegacy|1<<xPKRU, nil), layoutOld(), 0, "protection keys"},
		{"said to be used but absent", image(xLegacy|1<<xAVX, func(x *x86.UserX86XsaveEntry) { x.YmmhSpace = nil }), from, xLegacy, ""},
		{"present but not used", image(xLegacy|1<<xAVX, func(x *x86.UserX86XsaveEntry) { x.XstateBv = proto.Uint64(xLegacy) }), from, xLegacy, ""},
		{"cut", image(xLegacy|1<<xAVX, func(x *x86.UserX86XsaveEntry) { x.YmmhSpace = x.YmmhSpace[:63] }), from, 0, "252 bytes"},
		{"no xsave in the CPU", image(xLegacy, nil), &xlayout{}, xLegacy, ""},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			_, got, err := x.to.get(x.c)
			if x.err != "" {
				if err == nil || !strings.Contains(err.Error(), x.err) {
					t.Errorf("error %v, want one with %q", err, x.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if used := xInUse(got); used != x.used {
				t.Errorf("components %#x, want %#x", used, x.used)
			}
		})
	}
}

func TestCoreAbsent(t *testing.T) {
	l := layoutIntel()
	regs := testRegs()
	c := &core.CoreEntry{}
	if err := l.put(c, &regs, nil); err != nil {
		t.Fatal(err)
	}
	SetClearTID(c, 77)
	if err := l.put(c, &regs, testState(l, xLegacy)); err != nil {
		t.Fatal(err)
	}
	if ClearTID(c) != 77 {
		t.Error("clear_tid_addr was lost")
	}
	// An image without xsave, as old ones are.
	c.ThreadInfo.Fpregs.Xsave = nil
	if _, x, err := l.get(c); err != nil || len(x) != xsaveMin || xInUse(x) != xLegacy {
		t.Errorf("without xsave: %d bytes, %v", len(x), err)
	}
	c.ThreadInfo.Fpregs = nil
	if _, x, err := l.get(c); err != nil || x != nil {
		t.Errorf("without fpregs: %d bytes, %v", len(x), err)
	}
}

func TestCoreBroken(t *testing.T) {
	l := layoutIntel()
	tests := map[string]func(*core.CoreEntry){
		"nothing":       func(c *core.CoreEntry) { *c = core.CoreEntry{} },
		"other machine": func(c *core.CoreEntry) { c.Mtype = core.CoreEntry_AARCH64.Enum() },
		"no registers":  func(c *core.CoreEntry) { c.ThreadInfo.Gpregs = nil },
		"one missing":   func(c *core.CoreEntry) { c.ThreadInfo.Gpregs.Ip = nil },
		"32-bit mode":   func(c *core.CoreEntry) { c.ThreadInfo.Gpregs.Mode = x86.UserX86RegsMode_COMPAT.Enum() },
		"32-bit cs":     func(c *core.CoreEntry) { c.ThreadInfo.Gpregs.Cs = proto.Uint64(0x23) },
		"short st":      func(c *core.CoreEntry) { c.ThreadInfo.Fpregs.StSpace = nil },
		"short xmm":     func(c *core.CoreEntry) { c.ThreadInfo.Fpregs.XmmSpace = make([]uint32, 63) },
	}
	for name, spoil := range tests {
		c, regs := &core.CoreEntry{}, testRegs()
		if err := l.put(c, &regs, testState(l, xLegacy)); err != nil {
			t.Fatal(err)
		}
		spoil(c)
		if _, _, err := l.get(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := l.put(&core.CoreEntry{}, &Regs{}, make([]byte, 100)); err == nil {
		t.Error("a state of 100 bytes is accepted")
	}
}

func TestXStateExtraBroken(t *testing.T) {
	l, le := layoutIntel(), binary.LittleEndian
	entry := func(i, n uint32, data int) []byte {
		return append(le.AppendUint32(le.AppendUint32(nil, i), n), make([]byte, data)...)
	}
	base := testState(l, xLegacy)
	for name, extra := range map[string][]byte{
		"cut head":       entry(17, 64, 0)[:7],
		"cut":            entry(17, 64, 63),
		"core's own":     entry(xAVX, 256, 256),
		"number":         entry(99, 0, 0),
		"size":           entry(17, 32, 32),
		"huge":           entry(17, 1<<31, 8),
		"not this CPU's": entry(19, 128, 128),
	} {
		if _, err := l.add(base, extra); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := l.add(base, entry(19, 128, 128)); !errors.Is(err, ErrRegisters) {
		t.Errorf("APX on a CPU without: %v", err)
	}
	if _, err := l.extra(append(testState(l, xLegacy|1<<17), 0)[:xsaveMin]); err == nil {
		t.Error("a state without the tiles it says it has is accepted")
	}
}

func TestTrimPad(t *testing.T) {
	l := layoutIntel()
	x := testState(l, xLegacy|1<<xZMMHi)
	if len(x) != 1664 {
		t.Errorf("trimmed to %d bytes, want the end of the component in use, 1664", len(x))
	}
	// A component that CPUID does not know: better too much than too little.
	full := make([]byte, l.size)
	binary.LittleEndian.PutUint64(full[fxsaveSize:], 1<<40)
	if len(l.trim(full)) != len(full) {
		t.Error("trimmed although a component is unknown")
	}
	if x := make([]byte, 512); len(l.trim(x)) != 512 {
		t.Error("a state without header is trimmed")
	}
	a := make([]byte, XStateSize())
	if len(a) >= xsaveMin {
		b := TrimXState(a)
		b[0] = 1
		if a[0] != 0 {
			t.Error("TrimXState returns the caller's memory")
		}
		if p := PadXState(b); len(p) != len(a) || !bytes.Equal(p[:len(b)], b) {
			t.Errorf("padded to %d bytes, want %d", len(p), len(a))
		}
	}
}

// TestLayout compares CPUID's view with what any XSAVE CPU must have.
func TestLayout(t *testing.T) {
	l := layout()
	if l.size == 0 {
		t.Skip("no XSAVE")
	}
	if l.enabled&xLegacy != xLegacy {
		t.Errorf("XCR0 %#x lacks x87 or SSE", l.enabled)
	}
	for i := xAVX; i < 63; i++ {
		if l.len[i] != 0 && (l.at[i] < xsaveMin || l.end(i) > l.size) {
			t.Errorf("component %d is at %d-%d of %d", i, l.at[i], l.end(i), l.size)
		}
	}
	for _, a := range xAreas() {
		if n := l.len[a.bit]; n != 0 && n != a.size {
			t.Errorf("%s has %d bytes, expected %d", xName(a.bit), n, a.size)
		}
	}
}

func TestSegments(t *testing.T) {
	good := testRegs()
	if err := Segments(&good); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Regs){
		func(r *Regs) { r.Cs = 0x23 }, func(r *Regs) { r.Ss = 0 },
		func(r *Regs) { r.Fs = 0x63 }, func(r *Regs) { r.Gs = 7 }, func(r *Regs) { r.Ds = 0x0f },
	} {
		bad := testRegs()
		change(&bad)
		if Segments(&bad) == nil {
			t.Errorf("accepted: %+v", bad)
		}
	}
}

func FuzzGetCore(f *testing.F) {
	for _, used := range []uint64{xLegacy, xCore} {
		c, regs := &core.CoreEntry{}, testRegs()
		if err := layoutIntel().put(c, &regs, testState(layoutIntel(), used)); err != nil {
			f.Fatal(err)
		}
		b, _ := proto.MarshalOptions{AllowPartial: true}.Marshal(c)
		f.Add(b)
	}
	l := layoutIntel()
	extra, err := l.extra(testState(l, xLegacy|1<<17|1<<18))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(extra)
	base := testState(l, xLegacy)
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := l.add(base, b); err == nil && len(x) > l.size {
			t.Fatalf("%d bytes of state on a CPU with %d", len(x), l.size)
		}
		c := &core.CoreEntry{}
		if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, c) != nil {
			return
		}
		for _, l := range []*xlayout{layoutIntel(), layoutAMD(), layoutOld(), {}} {
			r, x, err := l.get(c)
			if err != nil {
				continue
			}
			if len(x) > max(l.size, xsaveMin) {
				t.Fatalf("%d bytes of state on a CPU with %d", len(x), l.size)
			}
			again := &core.CoreEntry{}
			if err := l.put(again, &r, x); err != nil && l.size != 0 {
				t.Fatalf("what was read can't be written: %v", err)
			}
		}
	})
}
