package file

import "testing"

// TestOutsideKey: what images call a file from outside is not trusted.
func TestOutsideKey(t *testing.T) {
	mount, ino, err := parseOutside(outsideKey(0x1f, 77))
	if err != nil || mount != 0x1f || ino != 77 {
		t.Errorf("mount %#x, inode %d, %v", mount, ino, err)
	}
	for _, key := range []string{"", "/etc/passwd", "file[]", "file[1]", "file[:]", "file[x:1]", "file[1:x]", "file[1:1", "file[-1:1]", "file[1:99999999999999999999999]", "pipe[1:1]"} {
		if _, _, err := parseOutside(key); err == nil {
			t.Errorf("%q is taken", key)
		}
	}
}
