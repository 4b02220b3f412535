package task

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Only two errors say that there are no labels: another one ends the dump.
func TestOwnLabel(t *testing.T) {
	for _, none := range []error{unix.EINVAL, unix.ENOENT} {
		if l := labelOf(nil, none); !l.none || l.err != nil {
			t.Errorf("%v: %+v", none, l)
		}
	}
	if l := labelOf(nil, unix.EACCES); l.none || !errors.Is(l.err, unix.EACCES) {
		t.Errorf("%+v", l)
	}
	if l := labelOf([]byte("a label\x00\n"), nil); l.none || l.err != nil || l.label != "a label" {
		t.Errorf("%+v", l)
	}
}
