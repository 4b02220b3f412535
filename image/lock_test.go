package image

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
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

// A file system without such locks is no reason not to dump.
func TestLockless(t *testing.T) {
	d := openDir(t, t.TempDir())
	check(t, d.f.Close()) // flock(2) answers as on NFS: EBADF
	if err := d.flock(unix.LOCK_EX); !lockless(err) {
		t.Errorf("got %v", err)
	}
	if lockless(nil) || lockless(unix.EWOULDBLOCK) || lockless(unix.EIO) {
		t.Error("other errors are taken for it")
	}
}
