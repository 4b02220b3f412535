package cli

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// advised adds to an error what the user can do, where that is the same wherever it
// comes from.
func advised(stage string, err error) error {
	switch {
	case stage == "dump" && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)):
		return fmt.Errorf("%w; free some space, or give another directory (-D)", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w; take it from a whole copy of the checkpoint", err)
	}
	return err
}
