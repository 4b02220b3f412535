package inspect

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/options"
)

// Run describes the checkpoint in s to w, for a person or with o.JSON as JSON.
// Nothing is written before all of it has been read, so a broken image gives an
// error and no output. So does one that is not what the dump wrote; of pages only
// the sizes are looked at, see Verify for them. A reader of w that goes away is no error.
func Run(ctx context.Context, o *options.Inspect, s image.Store, w io.Writer) error {
	report, err := Read(ctx, s)
	if err != nil {
		return err
	}
	if o.JSON {
		err = report.WriteJSON(w)
	} else {
		err = report.WriteText(w)
	}
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}
