package image

import (
	"errors"
	"testing"
)

// Only one dump at a time writes into a directory.
func TestLock(t *testing.T) {
	path := t.TempDir()
	a, b := openDir(t, path), openDir(t, path)
	check(t, a.Lock())
	check(t, a.Lock())
	if err := b.Lock(); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	check(t, a.Unlock())
	check(t, b.Lock())
}
