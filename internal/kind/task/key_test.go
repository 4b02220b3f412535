package task

import (
	"testing"
)

// TestLasts: only /proc/keys tells whether a key ends.
func TestLasts(t *testing.T) {
	const all = "0b1d2c3a I--Q---     1 perm 3f010000     0     0 user      plain: 6\n" +
		"0b1d2c3b I--Q---     1  10m 3f010000     0     0 user      ends: 6\n"
	for id, ok := range map[uint32]bool{0x0b1d2c3a: true, 0x0b1d2c3b: false, 7: false} {
		if err := lasts(all, id); (err == nil) != ok {
			t.Errorf("%#x: %v", id, err)
		}
	}
}
