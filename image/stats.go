package image

import (
	"errors"
	"fmt"
	"io/fs"

	"glis.dev/glis/image/proto"
)

// WriteStats writes the statistics of a dump or restore over earlier ones into a
// working directory that is not the images', as criu does: who calls it looks for
// them there. Those of a dump are not written over another checkpoint's, of which
// they are a part.
func WriteStats(dir string, r *Row, m proto.Message) error {
	d, err := OpenDir(dir, Overwrite())
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // only read
	if r == StatsDump {
		switch f, err := d.Open(Inventory.FileName()); {
		case err == nil:
			_ = f.Close() // only looked for
			return fmt.Errorf("working directory %v holds another checkpoint; name another one with -W", d)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return WriteOne(d, r, m)
}
