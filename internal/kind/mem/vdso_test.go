package mem

import "testing"

// FuzzSymbols: the code of a vdso comes from an image, so it may be anything.
func FuzzSymbols(f *testing.F) {
	k, err := ownVdso()
	if err != nil {
		f.Skip(err)
	}
	if k.syms["__vdso_clock_gettime"] == 0 {
		f.Errorf("this machine's vdso has functions %v", k.syms)
	}
	f.Add(k.text)
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := symbols(b); err == nil && len(all) > len(b) {
			t.Errorf("%d functions in %d bytes", len(all), len(b))
		}
	})
}
