package dump

import (
	"testing"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
)

func TestHole(t *testing.T) {
	const size = 0x70000
	vmas := []proc.VMA{
		{Start: 0x400000, End: 0x500000},
		{Start: 0x40000000, End: 0x40001000},
		{Start: 0x7f0000000000, End: 0x7f0000001000},
		{Start: 0x7f0000200000, End: 0x7f0000300000},
		{Start: 0xffffffffff600000, End: 0xffffffffff601000}, // [vsyscall], beyond what is ours to use
	}
	if got, want := hole(vmas, size), remote.Addr(0x7f0000000000-margin-size); got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
	if got := hole(vmas[2:], size); got != 0 {
		t.Errorf("%#x where there is no room", got)
	}
	if hole(vmas, arch.TaskSize) != 0 || hole(nil, size) != 0 {
		t.Error("room where there can't be any")
	}
}
