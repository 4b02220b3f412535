package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"glis.dev/glis/internal/par"
)

// ErrNoManifest is a checkpoint that nothing can be compared with.
var ErrNoManifest = errors.New("it has no checksums (criu writes none), so nothing can be verified")

// Verified is what was found in a checkpoint.
type Verified struct {
	Files int // that the manifest lists, itself and the inventory included
	Bytes int64
	Bad   []error // one for each file that is not as it was, by name
}

// Verify compares a whole checkpoint with its checksums. An error is one that
// keeps it from doing so; inventory.img and the manifest are among these.
func Verify(ctx context.Context, s Store) (*Verified, error) {
	c, err := Check(s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, NotWhole(s, err)
	}
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fmt.Errorf("%v: %w", s, ErrNoManifest)
	}
	strange, err := c.strange()
	if err != nil {
		return nil, err
	}
	found := make([]error, len(c.files.at))
	err = par.Do(len(found), func(i int) error {
		found[i] = c.checkFile(ctx, i, true)
		return context.Cause(ctx)
	})
	if err != nil {
		return nil, err
	}
	v := &Verified{Files: len(found) + 2, Bytes: c.bytes()}
	for _, bad := range append(found, strange...) {
		if bad != nil {
			v.Bad = append(v.Bad, bad)
		}
	}
	return v, nil
}

func (c *Checked) bytes() (n int64) {
	for i := range c.files.at {
		if f := c.files.entry(i); f.link == "" {
			n += f.size
		}
	}
	return n
}

// strange returns an error for each image that the manifest lacks.
func (c *Checked) strange() (bad []error, err error) {
	names, err := c.top.List()
	for _, name := range names {
		if _, ok := c.files.find(name); !ok && !mayBe(name) {
			bad = append(bad, notOurs(name))
		}
	}
	return bad, err
}
