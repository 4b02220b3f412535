package inspect

import (
	"context"
	"fmt"
	"io"

	"glis.dev/glis/image"
)

// Verify compares the checkpoint in s with the checksums of its dump, and
// writes a line for each file that is not as it was. If there is one it returns
// an error, too.
func Verify(ctx context.Context, s image.Store, w io.Writer) error {
	v, err := image.Verify(ctx, s)
	if err != nil {
		return err
	}
	for _, bad := range v.Bad {
		if _, err := fmt.Fprintln(w, clean(bad.Error())); err != nil {
			return err
		}
	}
	if n := len(v.Bad); n > 0 {
		return fmt.Errorf("%v: %d of %d files are not what the dump wrote; take another copy of the checkpoint", s, n, v.Files)
	}
	_, err = fmt.Fprintf(w, "%v: %d files, %d bytes: all as the dump wrote them\n", s, v.Files, v.Bytes)
	return err
}
