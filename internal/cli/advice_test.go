package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
)

// A full disk and a cut image are told with what to do; where the errno stands for
// something else, it is not.
func TestAdvised(t *testing.T) {
	for _, c := range []struct {
		stage string
		err   error
		want  string
	}{
		{"dump", unix.ENOSPC, "free some space"},
		{"dump", unix.EDQUOT, "free some space"},
		{"restore", unix.ENOSPC, ""}, // too many watches
		{"restore", io.ErrUnexpectedEOF, "a whole copy"},
		{"verify", io.ErrUnexpectedEOF, "a whole copy"},
		{"dump", unix.EMFILE, "ulimit -n"},
		{"restore", unix.EMFILE, "ulimit -n"},
		{"restore", fmt.Errorf("raise it (ulimit -Hn): %w", unix.EMFILE), ""},
		{"dump", unix.EFBIG, "ulimit -f"},
		{"restore", unix.EFBIG, "ulimit -f"},
		{"restore", fmt.Errorf("stub: clone: %w", unix.EAGAIN), "pids.max"},
		{"restore", fmt.Errorf("take a lease: %w", unix.EAGAIN), ""},
		{"dump", unix.EPERM, ""},
		{"dump", image.ErrRemoved, "a directory that stays"},
		{"dump", &fs.PathError{Op: "open", Path: "/proc/pages-1.img", Err: unix.ENOENT}, "another directory"},
		{"dump", &fs.PathError{Op: "open", Path: "/proc/7/maps", Err: unix.ENOENT}, ""},
	} {
		err := fmt.Errorf("pages-1.img: %w", c.err)
		got := advised(c.stage, err)
		if !errors.Is(got, c.err) || c.want == "" && got != err || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%s: %v", c.stage, got)
		}
	}
}
