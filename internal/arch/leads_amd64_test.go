package arch

import (
	"encoding/binary"
	"testing"
)

// The frame of a handler is told from what an earlier one has left by what is blocked.
func TestFrameLeadsTo(t *testing.T) {
	const start, end, signal = 0x1000, 0x2000, 23
	const all, usr1, handled = ^uint64(0), uint64(1 << 9), uint64(1 << (signal - 1))
	frame := func(ip, cs, before uint64) []byte {
		b := make([]byte, 1<<10)
		at := frameUcontext + ucMcontext + 8*16 + 64 // somewhere
		binary.LittleEndian.PutUint64(b[at:], ip)
		binary.LittleEndian.PutUint64(b[at+16:], cs)
		binary.LittleEndian.PutUint64(b[frameUcontext+ucSigmask+64:], before)
		binary.LittleEndian.PutUint32(b[frameSize+64:], signal)
		return b
	}
	ours := all &^ handled
	for name, c := range map[string]struct {
		stack []byte
		mask  uint64
		want  bool
	}{
		"within":                  {frame(start, userCS64|userSS<<48, ours), all, true},
		"the last":                {frame(end-1, userCS64, ours), all, true},
		"behind":                  {frame(end, userCS64, ours), all, false},
		"before":                  {frame(start-1, userCS64, ours), all, false},
		"no segment":              {frame(start, 0, ours), all, false},
		"left by an earlier one":  {frame(start, userCS64, ours), usr1, false},
		"does not block its own":  {frame(start, userCS64, ours), ours, true},
		"own mask was back":       {frame(start, userCS64, usr1), usr1 | handled, true},
		"own mask was back, left": {frame(start, userCS64, usr1), usr1, false},
		"cut":                     {frame(start, userCS64, ours)[:frameSize+64], all, false},
		"nothing":                 {nil, all, false},
		"blocks nothing":          {frame(start, userCS64, ours), 0, false}, // so that nobody need look
		"blocks nothing, nor did": {frame(start, userCS64, 0), 0, false},
	} {
		if got := FrameLeadsTo(c.stack, start, end, c.mask); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
