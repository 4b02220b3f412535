package file

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Control characters stand in an entry as criu reads and writes them: four in
// each of the first five numbers. One to a number, criu's terminals came back
// with four of them, and what was chance besides.
func TestTermios(t *testing.T) {
	var in unix.Termios
	for i := range controlChars {
		in.Cc[i] = uint8(i + 1)
	}
	e := packTermios(&in)
	want := []uint32{0x04030201, 0x08070605, 0x0c0b0a09, 0x100f0e0d, 0x131211}
	if !slices.Equal(e.CCc[:5], want) || len(e.CCc) != controlChars || slices.Max(e.CCc[5:]) != 0 {
		t.Errorf("%#x", e.CCc)
	}
	for i := 5; i < controlChars; i++ {
		e.CCc[i] = 0x77035f80 // whatever was there
	}
	e.CCc[4] |= 0x55 << 24
	if out := unpackTermios(e); out.Cc != in.Cc {
		t.Errorf("%#x, want %#x", out.Cc, in.Cc)
	}
}
