package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
)

// advised adds to an error what the user can do, where that is the same wherever it
// comes from.
func advised(stage string, err error) error {
	switch {
	case errors.Is(err, image.ErrRemoved):
		return fmt.Errorf("%w; give a directory that stays (-D)", err)
	case stage == "dump" && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)):
		return fmt.Errorf("%w; free some space, or give another directory (-D)", err)
	case errors.Is(err, unix.EMFILE) && !strings.Contains(err.Error(), "ulimit"):
		return fmt.Errorf("%w; allow Glis to open more (ulimit -n)", err)
	case errors.Is(err, unix.EAGAIN) && strings.Contains(err.Error(), "clone"):
		return fmt.Errorf("%w; allow more processes (pids.max of the cgroup, ulimit -u)", err)
	case stage == "dump" && errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w; allow larger files (ulimit -f), or give a directory on a file system that has them (-D)", err)
	case errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w; allow larger files (ulimit -f)", err)
	case stage == "dump" && noImage(err):
		return fmt.Errorf("%w; give another directory, in which files can be made (-D)", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w; take it from a whole copy of the checkpoint", err)
	}
	return err
}

// noImage tells whether an image could not be made: the directory is one that
// nobody writes into, as those of /proc, which don't say so when they are asked.
func noImage(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && p.Op == "open" && strings.HasSuffix(p.Path, ".img")
}
