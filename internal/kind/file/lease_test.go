package file

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
)

// A lease that lets others read can't be taken of a file that is open for writing: it is one that
// somebody has waited for the whole of lease-break-time for.
func TestLeaseType(t *testing.T) {
	for _, tt := range []struct {
		flags uint32
		typ   uint32
		ok    bool
	}{{unix.O_RDONLY, unix.F_RDLCK, true}, {unix.O_RDWR, unix.F_WRLCK, true}, {unix.O_RDWR, unix.F_RDLCK, false}, {unix.O_WRONLY | unix.O_APPEND, unix.F_RDLCK, false}} {
		f := &scan.File{Task: &scan.Task{PID: 7}, Link: "/file", Flags: tt.flags}
		typ, err := leaseType(f, "ACTIVE", tt.typ)
		if (err == nil) != tt.ok || err == nil && typ != tt.typ || err != nil && !errors.Is(err, kind.ErrUnsupported) {
			t.Errorf("flags %#x, type %d: %d, %v", tt.flags, tt.typ, typ, err)
		}
	}
}
