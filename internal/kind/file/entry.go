package file

import (
	"fmt"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/internal/plan"
)

// entryError says what is wrong with an entry of files.img.
func entryError(e *fdinfo.FileEntry, format string, args ...any) error {
	return fmt.Errorf("files.img: file %#x: %s", e.GetId(), fmt.Sprintf(format, args...))
}

// newBase checks what all entries have. inner is the number that the entry of
// the kind itself carries: descriptors refer to it.
func newBase(e *fdinfo.FileEntry, inner, flags uint32, own *fown.FownEntry) (base, error) {
	if e.GetId() != inner {
		return base{}, entryError(e, "inside it is called %#x", inner)
	}
	o, err := planOwner(own)
	if err != nil {
		return base{}, entryError(e, "%v", err)
	}
	return base{id: plan.ID(inner), flags: flags, owner: o}, nil
}
